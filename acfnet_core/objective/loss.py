"""The losses: each a vector of one number a patient, of which the mean is minimised.

Axes: `patient bin year feature half`.

No term looks at two patients at once: no batch statistics, no contrast, no ranking.
Hence the mean over all sites equals the mean of the pooled patients, every patient has
a gradient of its own, and clipping it bounds what one person can change.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from acfnet_core.objective.time_bins import COMPETING_DEATH, EVENT

SMALLEST_SQUARE = 1e-12
"""Added to squared lengths: the cosine of a zero vector is 0, with a finite slope."""


class LossConfig(BaseModel):
    """The weight of each term; a site's data has no part in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    survival: float = Field(1.0, ge=0, description="Negative log-likelihood.")
    alignment: float = Field(0.1, ge=0, description="Shared halves point one way.")
    disentanglement: float = Field(0.01, ge=0, description="Halves are unrelated.")
    smoothness: float = Field(0.01, ge=0, description="Logits of neighbouring bins.")


@runtime_checkable
class LossInputs(Protocol):
    """The fields of a network's output that the losses read."""

    @property
    def hazard_logits(self) -> Tensor:
        """Logit of every bin `[patient bin]`."""

    @property
    def competing_logits(self) -> Tensor | None:
        """Logit of death first `[patient bin]`, if it is modelled."""

    @property
    def image_year_tokens(self) -> Tensor:
        """Image tokens `[patient year feature]`."""

    @property
    def shared_image(self) -> Tensor:
        """Shared half of the image embedding `[patient half]`."""

    @property
    def private_image(self) -> Tensor:
        """Private half of the image embedding `[patient half]`."""

    @property
    def shared_clinical(self) -> Tensor:
        """Shared half of the clinical embedding `[patient half]`."""

    @property
    def private_clinical(self) -> Tensor:
        """Private half of the clinical embedding `[patient half]`."""

    @property
    def has_image(self) -> Tensor:
        """Whether there is a scan `[patient]`."""

    @property
    def has_clinical(self) -> Tensor:
        """Whether a clinical column is known `[patient]`."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Each term unweighted, and their weighted total, per patient."""

    survival: Float[Tensor, " patient"]
    alignment: Float[Tensor, " patient"]
    disentanglement: Float[Tensor, " patient"]
    smoothness: Float[Tensor, " patient"]
    total: Float[Tensor, " patient"]

    @property
    def mean(self) -> Float[Tensor, ""]:
        """The loss: the mean of `total` over the patients."""
        return self.total.mean()


def total_loss(
    output: LossInputs,
    *,
    time_bin: Int64[Tensor, " patient"],
    kind: Int64[Tensor, " patient"],
    config: LossConfig,
) -> LossTerms:
    """Compute every term and their weighted sum.

    Args:
        output: What the network says of the patients.
        time_bin: Bins passed, from `discretise_times`.
        kind: What ended the passing, from `discretise_times`.
        config: The weights.

    Raises:
        ValueError: A competing death is given to a network that does not model it.
    """
    survival = survival_loss(
        output.hazard_logits, time_bin, kind, competing_logits=output.competing_logits
    )
    alignment = alignment_loss(
        output.shared_image,
        output.shared_clinical,
        has_both=output.has_image & output.has_clinical,
    )
    disentanglement = _both_disentanglements(output)
    smoothness = smoothness_loss(output.hazard_logits)
    return LossTerms(
        survival=survival,
        alignment=alignment,
        disentanglement=disentanglement,
        smoothness=smoothness,
        total=config.survival * survival
        + config.alignment * alignment
        + config.disentanglement * disentanglement
        + config.smoothness * smoothness,
    )


def survival_loss(
    hazard_logits: Float[Tensor, "patient bin"],
    time_bin: Int64[Tensor, " patient"],
    kind: Int64[Tensor, " patient"],
    *,
    competing_logits: Float[Tensor, "patient bin"] | None = None,
) -> Float[Tensor, " patient"]:
    """Return the negative log-likelihood of discrete hazards, with right censoring.

    `-sum_{j < b} log(1 - h_j) - [event] log h_b`, where b bins were passed. The bin in
    which a patient was censored says nothing. With a competing hazard g, met by those
    without an event in the bin, each bin passed adds `-log(1 - g_j)`, and a death in
    bin b adds `-log(1 - h_b) - log g_b`.

    Source: Gensheimer & Narasimhan 2019, doi:10.7717/peerj.6257, equation 3; Kvamme &
    Borgan 2021, doi:10.1007/s10985-021-09532-6, equation 8. The second cause is ours.

    Raises:
        ValueError: There is a competing death and no competing hazard.
    """
    bins = torch.arange(hazard_logits.shape[1], device=hazard_logits.device)
    passed = bins < time_bin.unsqueeze(1)
    here = bins == time_bin.unsqueeze(1)
    event_here = here & (kind == EVENT).unsqueeze(1)
    death_here = here & (kind == COMPETING_DEATH).unsqueeze(1)

    loss = _sum_where(passed | death_here, -logsigmoid(-hazard_logits))
    loss = loss + _sum_where(event_here, -logsigmoid(hazard_logits))
    if competing_logits is None:
        if bool((kind == COMPETING_DEATH).any()):
            raise ValueError("kind 2 (competing death) needs a network that models it")
        return loss
    loss = loss + _sum_where(passed, -logsigmoid(-competing_logits))
    return loss + _sum_where(death_here, -logsigmoid(competing_logits))


def alignment_loss(
    shared_image: Float[Tensor, "patient half"],
    shared_clinical: Float[Tensor, "patient half"],
    *,
    has_both: Bool[Tensor, " patient"],
) -> Float[Tensor, " patient"]:
    """Return 1 - cos of the shared halves; 0 for who lacks one of the modalities.

    Source: ours. The abstract of arXiv 2503.09652 names an alignment loss and gives no
    formula.
    """
    apart = 1 - _cosine(shared_image, shared_clinical)
    return torch.where(has_both, apart, torch.zeros_like(apart))


def disentanglement_loss(
    shared: Float[Tensor, "patient half"],
    private: Float[Tensor, "patient half"],
    *,
    has_modality: Bool[Tensor, " patient"],
) -> Float[Tensor, " patient"]:
    """Return the squared cosine of the two halves; 0 for who lacks the modality.

    Source: ours. The abstract of arXiv 2503.09652 names a disentanglement loss and
    gives no formula.
    """
    related = _cosine(shared, private).square()
    return torch.where(has_modality, related, torch.zeros_like(related))


def cross_covariance_loss(
    year_tokens: Float[Tensor, "patient year feature"],
) -> Float[Tensor, " patient"]:
    """Return the mean squared covariance of both halves over a patient's own years.

    With `Z` the tokens of one patient less their mean over the years, halves `Z_s` and
    `Z_p`: the mean of the squared entries of `Z_s^T Z_p / Y`. The years of one patient
    take the place that a batch has in other work, so that no patient enters another's
    term. It is 0 for who has no image, whose tokens are 0.

    Source: ours; the part of `disentanglement` that looks over the years.
    """
    centred = year_tokens - year_tokens.mean(dim=1, keepdim=True)
    shared, private = centred.chunk(2, dim=2)
    covariance = shared.transpose(1, 2) @ private / year_tokens.shape[1]
    return covariance.square().mean(dim=(1, 2))


def smoothness_loss(
    hazard_logits: Float[Tensor, "patient bin"],
) -> Float[Tensor, " patient"]:
    """Return the mean squared step between neighbouring bins' logits; 0 for one bin.

    Source: ours.
    """
    if hazard_logits.shape[1] == 1:
        return torch.zeros_like(hazard_logits[:, 0])
    return hazard_logits.diff(dim=1).square().mean(dim=1)


def _both_disentanglements(output: LossInputs) -> Float[Tensor, " patient"]:
    image = disentanglement_loss(
        output.shared_image, output.private_image, has_modality=output.has_image
    )
    clinical = disentanglement_loss(
        output.shared_clinical,
        output.private_clinical,
        has_modality=output.has_clinical,
    )
    return image + clinical + cross_covariance_loss(output.image_year_tokens)


def _cosine(
    first: Float[Tensor, "patient half"], second: Float[Tensor, "patient half"]
) -> Float[Tensor, " patient"]:
    """Return the cosine of each patient's two vectors, 0 where one is zero."""
    squares = first.square().sum(dim=1) * second.square().sum(dim=1)
    return (first * second).sum(dim=1) / (squares + SMALLEST_SQUARE).sqrt()


def _sum_where(
    chosen: Bool[Tensor, "patient bin"], values: Float[Tensor, "patient bin"]
) -> Float[Tensor, " patient"]:
    return torch.where(chosen, values, torch.zeros_like(values)).sum(dim=1)
