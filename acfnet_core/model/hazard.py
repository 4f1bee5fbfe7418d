"""From states of years to hazards of bins and the curves that follow from them.

Axes: `batch year bin feature`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from operator import add, mul

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from acfnet_core.model.config import Gate, Modalities


class TemporalUpsampler(nn.Linear):
    """Go from one value a year to one a bin, by a learned linear map of time.

    It begins as linear interpolation between the years' midpoints, held constant beyond
    the first and last. Being linear and without bias it keeps the attribution: an image
    logit of a bin is a weighted sum of risk maps.
    """

    def __init__(self, num_years: int, num_bins: int) -> None:
        super().__init__(num_years, num_bins, bias=False)
        interpolation = functional.interpolate(
            torch.eye(num_years).unsqueeze(0),
            size=num_bins,
            mode="linear",
            align_corners=False,
        )
        with torch.no_grad():
            self.weight.copy_(interpolation.squeeze(0).T)

    def upsample_states(
        self, states: Float[Tensor, "batch year feature"]
    ) -> Float[Tensor, "batch bin feature"]:
        """Upsample every feature of the years' states."""
        return rearrange(self(rearrange(states, "b y f -> b f y")), "b f k -> b k f")


@dataclass(frozen=True, kw_only=True)
class HazardLogits:
    """Logits of every bin: `mixed = gate image + (1 - gate) clinical + residual`."""

    mixed: Float[Tensor, "batch bin"]
    image: Float[Tensor, "batch bin"]
    clinical: Float[Tensor, "batch bin"]
    residual: Float[Tensor, "batch bin"]
    gate: Float[Tensor, "batch bin"]


class GatedHazardHead(nn.Module):
    """Mix, for each bin, an image logit and a clinical logit by a gate in (0, 1).

    The image logit is the upsampled sum of the risk maps, the clinical logit the linear
    path. A residual read from the fused state, which has seen both, is added to the
    mixture and not to the clinical logit: there it would let images in beside the gate,
    which then learned to close where only images inform. The gate is the share taken
    from the image: 0 without images, 1 with nothing else.
    Both logits start at the cohort's hazards, the residual near zero, the gate at 1/2.

    A head for one modality has the parameters of that one alone: its logit is the mixed
    one for every patient, and the other's is zero.
    """

    def __init__(
        self,
        width: int,
        initial_hazard: Float[Tensor, " bin"],
        *,
        modalities: Modalities = "both",
        gate: Gate = "learned",
    ) -> None:
        super().__init__()
        self.modalities = modalities
        self.learns_gate = modalities == "both" and gate == "learned"
        if modalities != "clinical":
            self.image_bias = _hazard_bias(initial_hazard)
        if modalities != "image":
            self.clinical_bias = _hazard_bias(initial_hazard)
            self.residual = nn.Linear(width, 1, bias=False)
        if self.learns_gate:
            self.gate = nn.Linear(width, 1)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        if modalities != "image":
            # Drawn last: the order of draws is part of what a seed means.
            nn.init.normal_(self.residual.weight, std=0.005)

    def forward(
        self,
        states: Float[Tensor, "batch bin feature"],
        image: Float[Tensor, "batch bin"],
        clinical: Float[Tensor, "batch bin"],
        has_image: Bool[Tensor, " batch"],
        has_clinical: Bool[Tensor, " batch"],
    ) -> HazardLogits:
        """Add the biases and mix."""
        only = torch.zeros(len(states), dtype=torch.long, device=states.device)
        if self.modalities != "clinical":
            image = image + self.image_bias(only)
        residual = torch.zeros_like(clinical)
        if self.modalities != "image":
            clinical = clinical + self.clinical_bias(only)
            residual = self.residual(states).squeeze(2)

        gate = self._gate(states, has_image, has_clinical)
        return HazardLogits(
            mixed=gate * image + (1 - gate) * clinical + residual,
            image=image,
            clinical=clinical,
            residual=residual,
            gate=gate,
        )

    def _gate(
        self,
        states: Float[Tensor, "batch bin feature"],
        has_image: Bool[Tensor, " batch"],
        has_clinical: Bool[Tensor, " batch"],
    ) -> Float[Tensor, "batch bin"]:
        """Return the share taken from the image.

        It is forced where a modality is missing, else learned or fixed at one half.
        """
        if self.modalities == "image":
            return torch.ones_like(states[:, :, 0])
        if self.learns_gate:
            free = self.gate(states).squeeze(2).sigmoid()
        else:
            free = torch.full_like(states[:, :, 0], 0.5)
        forced = has_image.unsqueeze(1).to(free.dtype).expand_as(free)
        return torch.where((has_image & has_clinical).unsqueeze(1), free, forced)


def _hazard_bias(initial_hazard: Float[Tensor, " bin"]) -> nn.Embedding:
    """Return a logit for every bin, looked up per patient, at the cohort's hazards."""
    bias = nn.Embedding(1, len(initial_hazard))
    with torch.no_grad():
        bias.weight.copy_(initial_hazard.logit().unsqueeze(0))
    return bias


class CompetingDeath(nn.Module):
    """The hazard of dying first: one logit a bin, the same for every patient.

    Without covariates it needs few deaths to be estimated and cannot take events away
    from the cause of interest.
    """

    def __init__(self, num_bins: int, initial_hazard: float) -> None:
        super().__init__()
        self.bias = nn.Embedding(1, num_bins)
        start = torch.tensor(initial_hazard).logit().item()
        nn.init.constant_(self.bias.weight, start)

    def forward(self, has_image: Bool[Tensor, " batch"]) -> Float[Tensor, "batch bin"]:
        """Return the same logits for each patient of the batch."""
        return self.bias(has_image.long() * 0)


@dataclass(frozen=True, kw_only=True)
class SurvivalCurves:
    """Hazard, survival and cumulative incidence at every bin."""

    hazard: Float[Tensor, "batch bin"]
    survival: Float[Tensor, "batch bin"]
    cumulative_incidence: Float[Tensor, "batch bin"]


def survival_curves(
    hazard_logits: Float[Tensor, "batch bin"],
    competing_logits: Float[Tensor, "batch bin"] | None = None,
) -> SurvivalCurves:
    """Turn logits into the probabilities of staying free and of having the event.

    With `h_k = sigmoid(logit_k)`: `S_k = prod_{j<=k} (1 - h_j)` at the right edge of
    bin k and `F_k = sum_{j<=k} S_{j-1} h_j`, both monotone for any logits. A competing
    death with hazard `g_k` is met by those without an event in the bin, so that
    `S_k = prod_{j<=k} (1 - h_j)(1 - g_j)`.

    Source: Kvamme & Borgan 2021, doi:10.1007/s10985-021-09532-6, equations 1-3; the
    order of the two causes within a bin is ours.
    """
    hazard = hazard_logits.sigmoid()
    # sigmoid(-x) keeps its digits where 1 - sigmoid(x) would round to 0.
    stay_free = (-hazard_logits).sigmoid()
    if competing_logits is not None:
        stay_free = stay_free * (-competing_logits).sigmoid()
    survival = _run_along_bins(mul, stay_free)
    before = torch.cat([torch.ones_like(survival[:, :1]), survival[:, :-1]], dim=1)
    incidence = _run_along_bins(add, before * hazard)
    return SurvivalCurves(
        hazard=hazard, survival=survival, cumulative_incidence=incidence
    )


def _run_along_bins(
    combine: Callable[[Tensor, Tensor], Tensor], values: Float[Tensor, "batch bin"]
) -> Float[Tensor, "batch bin"]:
    """Return running sums or products, bin by bin.

    torch.cumsum, which also stands in the backward of torch.cumprod, has no
    deterministic form on CUDA and raises there in the deterministic mode (torch 2.13).
    """
    return torch.stack([*accumulate(values.unbind(dim=1), combine)], dim=1)
