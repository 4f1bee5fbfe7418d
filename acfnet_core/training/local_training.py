"""One site's work of one round: some steps of AdamW from the global model."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch.nn.utils import clip_grad_norm_

from acfnet_core.cohort.store import PreparedCohort
from acfnet_core.errors import DataError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.batches import make_batch, shuffled_batches
from acfnet_core.training.settings import LocalTrainingSettings


@dataclass(frozen=True, kw_only=True)
class StepFinished:
    """One optimiser step was taken; `loss` is its batch's mean before the step."""

    step: int
    num_steps: int
    loss: float


def count_steps(settings: LocalTrainingSettings, num_patients: int) -> int:
    """Return how many optimiser steps a round has at a site of this size."""
    if settings.local_steps is not None:
        return settings.local_steps
    epochs = settings.local_epochs or 1
    return epochs * ceil(num_patients / settings.batch_size)


def train_locally(
    model: AcfNet,
    cohort: PreparedCohort,
    *,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    seed: int,
) -> Iterator[StepFinished]:
    """Train `model` in place on a site's patients; yield an event after every step.

    Args:
        model: The global model; holds the local one when the iterator is exhausted.
        cohort: The site's prepared patients.
        settings: The local work of a round.
        loss: Weights of the loss terms.
        seed: Decides the order of the patients; from `derive_seed`.

    Raises:
        DataError: There is no patient.
    """
    if not cohort.patients:
        raise DataError(
            "data.nothing_usable",
            "The prepared cohort has no patients to train on.",
            remedy="Run `acf-client data check` to see why, then prepare again.",
        )
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    num_steps = count_steps(settings, len(cohort.patients))
    batches = shuffled_batches(len(cohort.patients), settings.batch_size, generator)
    model.train()
    for step in range(1, num_steps + 1):
        batch = make_batch(cohort, next(batches), model.config, device)
        optimiser.zero_grad(set_to_none=True)
        terms = total_loss(
            model(batch.inputs), time_bin=batch.time_bin, kind=batch.kind, config=loss
        )
        terms.mean.backward()  # type: ignore[no-untyped-call]  # torch 2.13
        clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimiser.step()
        yield StepFinished(step=step, num_steps=num_steps, loss=terms.mean.item())
