from typing import Any

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort
from references.site_rounds import small_model
from torch import Tensor, nn

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.parameters import NamedArrays
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.batches import make_batch
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.gradient_change import ChangedGradient, GradientChange
from acfnet_core.training.local_training import StepFinished, train_locally
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings

CPU = torch.device("cpu")
RATE, DECAY = 0.05, 0.02
SETTINGS = LocalTrainingSettings(
    local_steps=3,
    batch_size=20,
    optimiser="sgd",
    learning_rate=RATE,
    weight_decay=DECAY,
    max_grad_norm=0.5,
)


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(20, seed=1)


def _plain_model() -> AcfNet:
    return small_model(dropout=0.0, token_dropout=0.0)


def _train(
    cohort: PreparedCohort,
    change: GradientChange | None = None,
    *,
    physical: int | None = None,
    **settings: Any,
) -> AcfNet:
    model = _plain_model()
    events = train_locally(
        model,
        cohort,
        settings=SETTINGS.model_copy(update=settings),
        loss=LossConfig(),
        seed=5,
        change=change,
        compute=ComputeOptions(physical_batch_size=physical),
    )
    assert len([e for e in events if isinstance(e, StepFinished)]) > 0
    return model


def _by_hand(
    cohort: PreparedCohort, *, mu: float = 0.0, added: NamedArrays | None = None
) -> AcfNet:
    """Three steps of gradient descent on all patients, with nothing but torch."""
    model = _plain_model()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    batch = make_batch(cohort, range(20), model.config, CPU)
    for _ in range(3):
        model.zero_grad()
        terms = total_loss(
            model(batch.inputs),
            time_bin=batch.time_bin,
            kind=batch.kind,
            config=LossConfig(),
        )
        torch.autograd.backward(terms.total.mean())
        with torch.no_grad():
            _step(model, start, mu, added)
    return model


def _step(
    model: nn.Module, start: dict[str, Tensor], mu: float, added: NamedArrays | None
) -> None:
    gradients = {
        name: p.grad + mu * (p - start[name])
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    shrink = min(1.0, float(SETTINGS.max_grad_norm / norm))
    for name, parameter in model.named_parameters():
        gradient = gradients.get(name)
        if added is not None:
            shift = torch.from_numpy(added[name])
            gradient = shift if gradient is None else gradient * shrink + shift
        elif gradient is not None:
            gradient = gradient * shrink
        if gradient is not None:
            parameter.sub_(RATE * (gradient + DECAY * parameter))


def _assert_close(one: AcfNet, other: AcfNet) -> None:
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(
            parameter, other.get_parameter(name), rtol=2e-5, atol=2e-6, msg=name
        )


def _added(scale: float = 0.1) -> NamedArrays:
    rng = np.random.default_rng(8)
    arrays = model_arrays(_plain_model())
    return {
        name: (scale * rng.normal(size=arrays[name].shape)).astype(np.float32)
        for name in arrays
    }


def test_plain_gradient_descent_equals_the_steps_by_hand(
    cohort: PreparedCohort,
) -> None:
    _assert_close(_train(cohort), _by_hand(cohort))


def test_the_proximal_pull_joins_before_the_clipping(cohort: PreparedCohort) -> None:
    mu = 20.0
    _assert_close(
        _train(cohort, GradientChange(proximal_mu=mu)), _by_hand(cohort, mu=mu)
    )


def test_the_correction_joins_after_the_clipping(cohort: PreparedCohort) -> None:
    added = _added()
    _assert_close(
        _train(cohort, GradientChange(added=added)), _by_hand(cohort, added=added)
    )


@pytest.mark.parametrize("physical", [1, 7])
def test_a_change_is_made_once_a_step_whatever_fits_into_memory(
    cohort: PreparedCohort, physical: int
) -> None:
    change = GradientChange(proximal_mu=20.0, added=_added())
    _assert_close(_train(cohort, change, physical=physical), _train(cohort, change))


def test_a_change_of_nothing_changes_no_bit(cohort: PreparedCohort) -> None:
    plain, unchanged = _train(cohort), _train(cohort, GradientChange())
    pairs = zip(plain.parameters(), unchanged.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_stronger_pull_keeps_a_site_nearer(cohort: PreparedCohort) -> None:
    def moved(mu: float) -> float:
        model = _train(
            cohort, GradientChange(proximal_mu=mu), local_steps=8, max_grad_norm=1e6
        )
        pairs = zip(model.parameters(), _plain_model().parameters(), strict=True)
        return sum(float(((a - b) ** 2).sum().detach()) for a, b in pairs)

    distances = [moved(mu) for mu in (0.0, 1.0, 5.0, 15.0)]
    assert distances == sorted(distances, reverse=True)


def test_the_first_step_feels_no_pull(cohort: PreparedCohort) -> None:
    pulled = _train(cohort, GradientChange(proximal_mu=50.0), local_steps=1)
    plain = _train(cohort, local_steps=1)
    pairs = zip(pulled.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_parameter_without_a_gradient_gets_none_from_the_pull() -> None:
    model = nn.Linear(2, 1)
    changed = ChangedGradient(model, GradientChange(proximal_mu=1.0))
    with torch.no_grad():
        model.weight.add_(1.0)
    changed.before_clipping()
    assert model.weight.grad is None


def _added_to_linear() -> dict[str, np.ndarray]:
    return {
        "weight": np.array([[1.0, 2.0]], np.float32),
        "bias": np.array([3.0], np.float32),
    }


def _gradient(parameter: Tensor) -> list[list[float]] | None:
    return None if parameter.grad is None else parameter.grad.tolist()


def test_a_parameter_without_a_gradient_is_corrected_all_the_same() -> None:
    model = nn.Linear(2, 1)
    added = _added_to_linear()
    changed = ChangedGradient(model, GradientChange(added=added))
    changed.before_clipping()
    assert _gradient(model.weight) is None
    changed.after_clipping()
    assert _gradient(model.weight) == [[1.0, 2.0]]


def test_the_correction_itself_is_not_changed_by_steps() -> None:
    model = nn.Linear(2, 1)
    added = _added_to_linear()
    changed = ChangedGradient(model, GradientChange(added=added))
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        changed.after_clipping()
        assert model.weight.grad is not None
        model.weight.grad.mul_(5.0)
    assert added["weight"].tolist() == [[1.0, 2.0]]


def test_a_step_tells_its_learning_rate(cohort: PreparedCohort) -> None:
    events = train_locally(
        _plain_model(), cohort, settings=SETTINGS, loss=LossConfig(), seed=5
    )
    rates = [e.learning_rate for e in events if isinstance(e, StepFinished)]
    assert rates == [RATE] * 3
