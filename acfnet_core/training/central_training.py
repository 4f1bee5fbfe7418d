"""A model trained in one place: what a federation is compared with.

The same network, settings and first parameters as the run's, in one continuous training
without rounds. The optimiser keeps its state to the end, where a site starts afresh in
every round.
"""

from dataclasses import dataclass

import torch

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.early_stopping import divide_cohort
from acfnet_core.training.local_training import (
    StepFinished,
    count_steps,
    train_locally,
)
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import LocalTrainingSettings


@dataclass(frozen=True, kw_only=True)
class CentralModel:
    """A trained model and the optimiser steps that it took."""

    model: AcfNet
    num_steps: int


def steps_of_run(
    settings: LocalTrainingSettings, num_patients: int, *, num_rounds: int
) -> int:
    """Return how many steps a site of this size takes in a run, without stopping early.

    Args:
        settings: The local work of a round.
        num_patients: Of the site, the validation part included.
        num_rounds: Of the run.
    """
    trained = num_patients - round(settings.validation_share * num_patients)
    return num_rounds * count_steps(settings, trained)


def train_centrally(
    cohort: PreparedCohort,
    *,
    config: AcfNetConfig,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    num_steps: int,
    seed: int,
    name: str,
    device: torch.device,
) -> CentralModel:
    """Train the run's first model on one cohort.

    Args:
        cohort: All patients; with a validation share, some of them judge when to stop.
        config: The network's settings.
        settings: The run's training; how much of it is told by `num_steps`.
        loss: Weights of the loss terms.
        num_steps: Optimiser steps.
        seed: The run's.
        name: Of the cohort: with the seed it decides the order of the patients.
        device: Where to compute.

    Raises:
        DataError: Too few patients for the validation part.
    """
    model = build_model(config, seed=seed).to(device)
    parts = divide_cohort(
        cohort,
        validation_share=settings.validation_share,
        seed=derive_seed(seed, name, "validation"),
    )
    work = {"local_epochs": None, "local_steps": num_steps}
    order = derive_seed(seed, name, "central")
    taken = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Dropout draws from torch's own generator.
        torch.manual_seed(order)
        for event in train_locally(
            model,
            parts.training,
            settings=settings.model_copy(update=work),
            loss=loss,
            seed=order,
            validation=parts.validation,
        ):
            taken += isinstance(event, StepFinished)
    return CentralModel(model=model, num_steps=taken)
