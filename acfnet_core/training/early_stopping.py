"""Early stopping: a part of a site's patients that says which parameters to keep.

The part is drawn once for a run, stratified by event, from a seed; its patients are
never trained on in that run. What is compared is the survival term alone, the mean
negative log-likelihood: the other terms shape the network and are not what it is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.splits import split_patients
from acfnet_core.errors import DataError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import survival_loss
from acfnet_core.training.batches import make_batch

LARGEST_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class CohortParts:
    """The patients to train on and those that judge; None where nobody is kept back."""

    training: PreparedCohort
    validation: PreparedCohort | None


def divide_cohort(
    cohort: PreparedCohort, *, validation_share: float, seed: int
) -> CohortParts:
    """Keep a validation part of a site's patients back.

    Args:
        cohort: The site's patients.
        validation_share: Share of each stratum (event, no event), 0 to 0.5; 0 keeps
            nobody back.
        seed: Decides who; one seed for all rounds of a run.

    Raises:
        DataError: One of the parts would be below the contract's minimum cell
            (`data.validation_too_small`).
    """
    if validation_share == 0:
        return CohortParts(training=cohort, validation=None)
    events = np.array([patient.event == 1 for patient in cohort.patients], dtype=bool)
    kept, trained = split_patients(events, fraction=validation_share, seed=seed)
    minimum = cohort.contract.minimum_cell
    if min(len(kept), len(trained)) < minimum:
        raise DataError(
            "data.validation_too_small",
            f"With validation_share {validation_share:g} fewer than {minimum} patients "
            "would be left to train on or to validate with.",
            remedy="Ask the coordinator for another validation_share, or for 0.",
        )
    return CohortParts(training=_some(cohort, trained), validation=_some(cohort, kept))


def validation_loss(model: AcfNet, cohort: PreparedCohort, *, batch_size: int) -> float:
    """Return the mean survival term of the patients; the model is left in training."""
    device = next(model.parameters()).device
    num_patients, total = len(cohort.patients), 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, num_patients, batch_size):
            indices = range(start, min(start + batch_size, num_patients))
            batch = make_batch(cohort, indices, model.config, device)
            output = model(batch.inputs)
            losses = survival_loss(
                output.hazard_logits,
                batch.time_bin,
                batch.kind,
                competing_logits=output.competing_logits,
            )
            total += losses.sum(dtype=torch.float64).item()
    model.train()
    return total / num_patients


@dataclass
class BestParameters:
    """The parameters with the lowest validation loss so far.

    Attributes:
        loss: Theirs; infinite as long as none was finite.
        num_worse: Judgements since then.
    """

    model: AcfNet
    loss: float = inf
    num_worse: int = 0
    _kept: Sequence[Tensor] = field(default=(), repr=False)

    def judge(self, loss: float) -> bool:
        """Keep the present parameters if their loss is the lowest; say whether."""
        is_first = not self._kept
        is_best = isfinite(loss) and loss < self.loss
        if is_best:
            self.loss = loss
        if is_best or is_first:
            # The received parameters are kept even if they give no finite loss.
            self._kept = [p.detach().clone() for p in self.model.parameters()]
        self.num_worse = 0 if is_best or is_first else self.num_worse + 1
        return is_best

    def restore(self) -> None:
        """Put the best parameters back into the model."""
        with torch.no_grad():
            for parameter, kept in zip(
                self.model.parameters(), self._kept, strict=True
            ):
                parameter.copy_(kept)


def _some(cohort: PreparedCohort, indices: Int[np.ndarray, " index"]) -> PreparedCohort:
    patients = tuple(cohort.patients[index] for index in indices)
    return replace(cohort, patients=patients)
