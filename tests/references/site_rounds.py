"""A small network, and the request that brings it to a site."""

from typing import Any

import torch

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import (
    FlatParameters,
    flatten,
    layout_of,
    sha256_of,
)
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.local_training import TrainingEvent, train_locally
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings


def small_config(num_clinical_features: int = 13, **changes: Any) -> AcfNetConfig:
    """Return the settings of a network that trains in milliseconds."""
    content = {"channels": 8, "token_width": 8, **changes}
    return AcfNetConfig(num_clinical_features=num_clinical_features, **content)


def small_model(seed: int = 0, **changes: Any) -> AcfNet:
    """Build a small network; equal seeds give equal bits."""
    return build_model(small_config(**changes), seed=seed)


def train_briefly(
    model: AcfNet, cohort: PreparedCohort, compute: ComputeOptions
) -> list[TrainingEvent]:
    """Train three steps of eight patients on the model's device; return the events."""
    torch.manual_seed(2)
    return list(
        train_locally(
            model,
            cohort,
            settings=LocalTrainingSettings(local_steps=3, batch_size=8),
            loss=LossConfig(),
            seed=2,
            compute=compute,
        )
    )


def ask_to_train(
    model: AcfNet, cohort: PreparedCohort, /, **changes: Any
) -> tuple[RoundRequest, FlatParameters]:
    """Return a first round's request for one local step, and the global parameters.

    Args:
        model: The global model.
        cohort: Its contract is the run's.
        changes: Fields of the request that are to differ.
    """
    base = flatten(model_arrays(model))
    content = {
        "run": "run-1",
        "round": 1,
        "num_rounds": 2,
        "trains": True,
        "seed": 7,
        "contract_sha256": cohort.contract.sha256(),
        "layout_sha256": layout_of(model_arrays(model)).sha256(),
        "base_sha256": sha256_of(base),
        "model": model.config.model_dump(mode="json"),
        "training": {"local_steps": 1, "batch_size": 8},
        "loss": {},
    }
    return RoundRequest.model_validate({**content, **changes}), base
