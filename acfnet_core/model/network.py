"""The 4D-ACFNet, whole, in the order in which data flows through it.

This is an open reconstruction. The method is described in "4D-ACFNet: A 4D Attention
Mechanism-Based Prognostic Framework for Colorectal Cancer Liver Metastasis Integrating
Multimodal Spatiotemporal Features" (arXiv 2503.09652, 2025), of which the abstract is
all that we had.

Theirs, from the abstract: spatiotemporal separable convolution with 41 % fewer
parameters, virtual timestamp encoding, a 4D attention mechanism, Transformer layers
with modality alignment and disentanglement losses, temporal upsampling, a gated head,
interannual risk maps.

Ours: every shape, width and formula; that the convolutional saving is a matching rule
scaled by 0.59; axial attention; risk maps as an exact attribution of the image logit;
masks for whatever is missing; a linear clinical path from which training starts; a
discrete-time hazard with, on request, a competing death. The numbers of the paper are
not reproduced and not claimed.

    scans    -> stem -> stages -> virtual years -> stages -> 4D attention -> readout
    readout  -> risk maps, their sums (image logit) and a token for every year
    clinical -> a token for every column, and the linear path (clinical logit)
    tokens   -> Transformer -> states of years -> temporal upsampling -> states of bins
    bins     -> the gate that mixes the two logits, and a residual to the mixture

Axes: `batch scan year bin channel depth height width feature`. With one scan before
surgery the years are projections: they allow hazards that are not proportional, but
say nothing new about the patient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from acfnet_core.model.attention import AxialAttention4D, CrossModalTransformer
from acfnet_core.model.clinical import (
    ClinicalReadout,
    ClinicalTokenizer,
    LinearClinicalPath,
)
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.convolution import Stem
from acfnet_core.model.hazard import (
    CompetingDeath,
    GatedHazardHead,
    TemporalUpsampler,
    survival_curves,
)
from acfnet_core.model.inputs import PatientInputs, hide_missing, keep_modalities
from acfnet_core.model.risk_maps import RiskMapReadout, YearReadout
from acfnet_core.model.stages import (
    ExpandingStage,
    stages_of_scans,
    stages_of_years,
)

__all__ = ["AcfNet", "AcfNetConfig", "AcfNetOutput", "build_model"]


@dataclass(frozen=True, kw_only=True)
class AcfNetOutput:
    """What the network says of each patient of a batch.

    Attributes:
        hazard_logits: The mixture of both logits plus the residual.
        hazard: Probability of the event in a bin for those free of it before.
        survival: Probability to be free of event (and death) at the bin's right edge.
        cumulative_incidence: Probability of the event up to the bin's right edge.
        gate: Share of the image logit in the mixed one.
        image_logits: From the images alone; a linear map of the risk maps' sums.
        clinical_logits: From the clinical columns alone, a line.
        residual_logits: From the fused state, which has seen both.
        competing_logits: Of death before the event, if the model has it; equal rows.
        risk_maps: Additive attribution of each year's image logit; see `risk_maps.py`.
        image_year_logits: Sums of the risk maps.
        image_year_tokens: What the image gives the Transformer; zero without images.
        shared_image: First half of the image's mean token, meant to match the clinic's.
        private_image: Second half, meant to hold what only images tell.
        shared_clinical: First half of the known columns' mean token.
        private_clinical: Second half.
        has_image: Whether any scan exists, for a network that reads scans.
        has_clinical: Whether any column is known, for a network that reads columns.
    """

    hazard_logits: Float[Tensor, "batch bin"]
    hazard: Float[Tensor, "batch bin"]
    survival: Float[Tensor, "batch bin"]
    cumulative_incidence: Float[Tensor, "batch bin"]
    gate: Float[Tensor, "batch bin"]
    image_logits: Float[Tensor, "batch bin"]
    clinical_logits: Float[Tensor, "batch bin"]
    residual_logits: Float[Tensor, "batch bin"]
    competing_logits: Float[Tensor, "batch bin"] | None
    risk_maps: Float[Tensor, "batch year mapdepth mapheight mapwidth"]
    image_year_logits: Float[Tensor, "batch year"]
    image_year_tokens: Float[Tensor, "batch year feature"]
    shared_image: Float[Tensor, "batch half"]
    private_image: Float[Tensor, "batch half"]
    shared_clinical: Float[Tensor, "batch half"]
    private_clinical: Float[Tensor, "batch half"]
    has_image: Bool[Tensor, " batch"]
    has_clinical: Bool[Tensor, " batch"]


RunBlock = Callable[..., Tensor]
"""Runs one block of the image branch: the block, then what it takes."""


def call_block(block: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a block of the image branch as it is."""
    return block(*inputs)


class AcfNet(nn.Module):
    """4D-ACFNet: serial scans and clinical columns in, hazards and risk maps out.

    A network for one modality (`AcfNetConfig.modalities`) lacks the other's parts.

    Attributes:
        run_block: Runs each block of the image branch, where the time and the memory
            go; while training a machine may set another way (`training/compute.py`).
    """

    def __init__(self, config: AcfNetConfig) -> None:
        super().__init__()
        self.config = config
        self.run_block: RunBlock = call_block
        if config.reads_images:
            self._build_image_branch(config)
        if config.reads_columns:
            self._build_clinical_branch(config)
        self.upsampler = TemporalUpsampler(config.num_virtual_years, config.num_bins)
        self.head = GatedHazardHead(
            config.token_width,
            torch.tensor(config.starting_hazard),
            modalities=config.modalities,
            gate=config.gate,
        )
        self.competing = (
            CompetingDeath(config.num_bins, config.initial_death_hazard)
            if config.competing_death
            else None
        )

    def _build_image_branch(self, config: AcfNetConfig) -> None:
        """Make what turns scans into virtual years and reads those."""
        channels, heads = config.channels, config.num_heads
        self.stem = Stem(config.num_channels, channels, config.reduction, heads)
        self.scan_stages = stages_of_scans(config)
        self.expansion = ExpandingStage(config)
        self.year_stages = stages_of_years(config)
        self.attention = AxialAttention4D(channels, config.num_axial_heads)
        self.readout = RiskMapReadout(
            channels, config.token_width, makes_tokens=config.reads_columns
        )

    def _build_clinical_branch(self, config: AcfNetConfig) -> None:
        """Make what reads the columns and fuses them with the image's tokens.

        The fused state corrects the clinical logit and sets the gate: a network without
        columns has no use for it.
        """
        num_columns, width = config.num_clinical_features, config.token_width
        self.tokenizer = ClinicalTokenizer(num_columns, width)
        self.linear_path = LinearClinicalPath(num_columns, config.num_bins)
        self.fusion = CrossModalTransformer(
            width,
            num_years=config.num_virtual_years,
            num_layers=config.num_fusion_layers,
            num_heads=config.num_heads,
            dropout=config.dropout,
            token_dropout=config.token_dropout,
        )

    def forward(self, inputs: PatientInputs) -> AcfNetOutput:
        """Predict for each patient by itself.

        Raises:
            ValueError: The scans' grid is no multiple of the configured reduction.
        """
        known = hide_missing(
            keep_modalities(
                inputs,
                images=self.config.reads_images,
                columns=self.config.reads_columns,
            )
        )
        has_image = known.scan_mask.any(dim=1)
        has_clinical = known.clinical_mask.any(dim=1)

        image = self._read_images(known, has_image)
        clinical = self._read_columns(known, image, has_image)
        logits = self.head(
            clinical.states,
            self.upsampler(image.year_logits),
            clinical.logits,
            has_image,
            has_clinical,
        )
        death = None if self.competing is None else self.competing(has_image)
        curves = survival_curves(logits.mixed, death)
        shared_image, private_image = image.year_tokens.mean(dim=1).chunk(2, dim=1)
        shared_clinical, private_clinical = _mean_token(
            clinical.tokens, known.clinical_mask
        ).chunk(2, dim=1)
        return AcfNetOutput(
            hazard_logits=logits.mixed,
            hazard=curves.hazard,
            survival=curves.survival,
            cumulative_incidence=curves.cumulative_incidence,
            gate=logits.gate,
            image_logits=logits.image,
            clinical_logits=logits.clinical,
            residual_logits=logits.residual,
            competing_logits=death,
            risk_maps=image.risk_maps,
            image_year_logits=image.year_logits,
            image_year_tokens=image.year_tokens,
            shared_image=shared_image,
            private_image=private_image,
            shared_clinical=shared_clinical,
            private_clinical=private_clinical,
            has_image=has_image,
            has_clinical=has_clinical,
        )

    def _read_images(
        self, known: PatientInputs, has_image: Bool[Tensor, " batch"]
    ) -> YearReadout:
        """Run the image branch; patients without scans get zeros from it."""
        map_shape = self._map_shape(known.scans)
        if not bool(has_image.any()):
            return self._no_images(known.scans, map_shape)
        run, channel_known = self.run_block, known.channel_mask.to(known.scans.dtype)
        scans = run(self.stem, known.scans, channel_known)
        for stage in self.scan_stages:
            scans = run(stage, scans)
        years = run(self.expansion, scans, known.scan_time_months, known.scan_mask)
        for stage in self.year_stages:
            years = run(stage, years)
        years = run(self.attention, years)
        read = self.readout(years)
        seen = has_image[:, None, None]
        return YearReadout(
            risk_maps=_zero_unless(seen[..., None, None], read.risk_maps),
            year_logits=_zero_unless(seen[..., 0], read.year_logits),
            year_tokens=_zero_unless(seen, read.year_tokens),
        )

    def _read_columns(
        self,
        known: PatientInputs,
        image: YearReadout,
        has_image: Bool[Tensor, " batch"],
    ) -> ClinicalReadout:
        """Run the clinical branch; a network without it gets zeros from it."""
        num_patients, num_columns = known.clinical.shape
        bins, width = self.config.num_bins, self.config.token_width
        if not self.config.reads_columns:
            return ClinicalReadout(
                tokens=known.clinical.new_zeros(num_patients, num_columns, width),
                states=known.clinical.new_zeros(num_patients, bins, width),
                logits=known.clinical.new_zeros(num_patients, bins),
            )
        tokens = self.tokenizer(known.clinical)
        states = self.fusion(image.year_tokens, tokens, has_image, known.clinical_mask)
        return ClinicalReadout(
            tokens=tokens,
            states=self.upsampler.upsample_states(states),
            logits=self.linear_path(known.clinical),
        )

    def _no_images(self, scans: Tensor, map_shape: tuple[int, ...]) -> YearReadout:
        """Return what a batch without any scan reads from the image branch."""
        first = (len(scans), self.config.num_virtual_years)
        return YearReadout(
            risk_maps=scans.new_zeros(*first, *map_shape),
            year_logits=scans.new_zeros(first),
            year_tokens=scans.new_zeros(*first, self.config.token_width),
        )

    def _map_shape(self, scans: Tensor) -> tuple[int, ...]:
        """Return the grid of the risk maps."""
        grid, reduction = tuple(scans.shape[3:]), self.config.reduction
        cells = zip(grid, reduction, strict=True)
        if any(voxels % step for voxels, step in cells):
            raise ValueError(
                f"the scans' grid {grid} must be a multiple of reduction {reduction}"
            )
        return tuple(n // step for n, step in zip(grid, reduction, strict=True))


def build_model(config: AcfNetConfig, *, seed: int) -> AcfNet:
    """Build a network whose initial parameters depend on the seed alone.

    The global random state is left as it was found.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed every GPU, which is not forked here.
        torch.default_generator.manual_seed(seed)
        return AcfNet(config)


def _mean_token(
    tokens: Float[Tensor, "batch column feature"], mask: Bool[Tensor, "batch column"]
) -> Float[Tensor, "batch feature"]:
    """Return the mean of the known columns' tokens; zero when none is known."""
    total = _zero_unless(mask.unsqueeze(2), tokens).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _zero_unless(known: Tensor, values: Tensor) -> Tensor:
    return torch.where(known, values, torch.zeros_like(values))
