from typing import Any

import pytest
import torch
from references.cohorts import make_cohort
from references.site_rounds import small_model
from torch import Tensor

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.local_training import (
    StepFinished,
    count_steps,
    train_locally,
)
from acfnet_core.training.settings import LocalTrainingSettings


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(20, seed=1)


def _train(
    model: AcfNet, cohort: PreparedCohort, *, seed: int = 0, **settings: Any
) -> list[StepFinished]:
    steps = train_locally(
        model,
        cohort,
        settings=LocalTrainingSettings.model_validate({"local_steps": 3, **settings}),
        loss=LossConfig(),
        seed=seed,
    )
    return [step for step in steps if isinstance(step, StepFinished)]


def _trained(cohort: PreparedCohort, *, seed: int) -> list[Tensor]:
    model = small_model(dropout=0.0, token_dropout=0.0)
    _train(model, cohort, seed=seed)
    return list(model.parameters())


def test_one_seed_trains_to_the_same_bits(cohort: PreparedCohort) -> None:
    once, again = _trained(cohort, seed=3), _trained(cohort, seed=3)
    assert all(map(torch.equal, once, again))


def test_another_seed_trains_to_other_bits(cohort: PreparedCohort) -> None:
    one, other = _trained(cohort, seed=3), _trained(cohort, seed=4)
    assert not all(map(torch.equal, one, other))


def test_local_steps_are_kept_to(cohort: PreparedCohort) -> None:
    steps = _train(small_model(), cohort, local_steps=4)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert {step.num_steps for step in steps} == {4}


@pytest.mark.parametrize(
    ("num_patients", "expected"), [(1, 2), (7, 2), (8, 2), (9, 4), (16, 4), (17, 6)]
)
def test_epochs_count_the_last_batch_that_is_not_full(
    num_patients: int, expected: int
) -> None:
    settings = LocalTrainingSettings(local_epochs=2, batch_size=8)
    assert count_steps(settings, num_patients) == expected


def test_steps_do_not_depend_on_the_number_of_patients() -> None:
    settings = LocalTrainingSettings(local_steps=5)
    assert {count_steps(settings, n) for n in (1, 8, 500)} == {5}


def test_the_loss_falls_on_data_that_can_be_learnt() -> None:
    model = small_model(dropout=0.0, token_dropout=0.0)
    steps = _train(
        model,
        make_cohort(20, seed=5),
        local_steps=60,
        batch_size=20,
        learning_rate=0.01,
    )
    losses = [step.loss for step in steps]
    assert losses[-1] < 0.85 * losses[0]


def test_the_reported_loss_is_that_before_the_step(cohort: PreparedCohort) -> None:
    slow = _train(
        small_model(dropout=0.0, token_dropout=0.0), cohort, learning_rate=1e-6
    )
    fast = _train(
        small_model(dropout=0.0, token_dropout=0.0), cohort, learning_rate=0.5
    )
    assert slow[0].loss == fast[0].loss
    assert slow[1].loss != fast[1].loss


def test_a_small_bound_on_the_gradient_gives_another_model(
    cohort: PreparedCohort,
) -> None:
    free, bound = (
        small_model(dropout=0.0, token_dropout=0.0),
        small_model(dropout=0.0, token_dropout=0.0),
    )
    _train(free, cohort, max_grad_norm=1e6)
    _train(bound, cohort, max_grad_norm=1e-9)
    pairs = zip(free.parameters(), bound.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_nothing_happens_before_the_first_step_is_asked_for(
    cohort: PreparedCohort,
) -> None:
    model = small_model()
    train_locally(
        model,
        cohort,
        settings=LocalTrainingSettings(local_steps=1),
        loss=LossConfig(),
        seed=0,
    )
    pairs = zip(model.parameters(), small_model().parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_cohort_without_patients_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        _train(small_model(), make_cohort(0, seed=0))
    assert caught.value.code == "data.nothing_usable"
