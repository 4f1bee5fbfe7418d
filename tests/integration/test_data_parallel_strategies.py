"""What a strategy does to a gradient, in two processes that train one model."""

from typing import Any

import numpy as np
import pytest
import torch
from references.scan_cohorts import make_scan_cohort
from references.site_rounds import small_model
from torch import Tensor

from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.data_parallel import train_in_parallel
from acfnet_core.training.gradient_change import GradientChange
from acfnet_core.training.local_training import StepFinished, train_locally
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings

pytestmark = pytest.mark.integration

TWO_RANKS = ComputeOptions(devices=(torch.device("cpu"), torch.device("cpu")))
SETTINGS = LocalTrainingSettings(
    local_epochs=2, batch_size=4, optimiser="sgd", learning_rate=0.05
)


def _model() -> AcfNet:
    return small_model(dropout=0.0, token_dropout=0.0)


def _flat(model: AcfNet) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _change() -> GradientChange:
    rng = np.random.default_rng(8)
    arrays = model_arrays(_model())
    added = {
        name: (0.05 * rng.normal(size=arrays[name].shape)).astype(np.float32)
        for name in arrays
    }
    return GradientChange(proximal_mu=5.0, added=added)


def test_two_ranks_change_the_gradient_as_one_process_does() -> None:
    # Of 9 patients by 4 the last batch leaves one rank nothing, and some batches have
    # no image: there the correction meets parameters without a gradient.
    cohort = make_scan_cohort(9, seed=2)
    work: dict[str, Any] = {
        "settings": SETTINGS,
        "loss": LossConfig(),
        "seed": 4,
        "change": _change(),
    }
    alone, together, plain = _model(), _model(), _model()
    events = list(train_locally(alone, cohort, **work))
    ranks = list(train_in_parallel(together, cohort, compute=TWO_RANKS, **work))
    for _ in train_locally(plain, cohort, **{**work, "change": None}):
        pass
    assert (_flat(alone) - _flat(together)).abs().max() < 1e-4
    assert (_flat(alone) - _flat(plain)).abs().max() > 1e-3
    rates = [
        [e.learning_rate for e in told if isinstance(e, StepFinished)]
        for told in (events, ranks)
    ]
    assert rates[0] == rates[1] == [0.05] * 6
