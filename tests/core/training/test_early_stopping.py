from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from references.cohorts import make_cohort, with_events
from references.site_rounds import small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.early_stopping import (
    BestParameters,
    divide_cohort,
    validation_loss,
)
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.local_training import (
    PassValidated,
    StepFinished,
    TrainingEvent,
    train_locally,
)
from acfnet_core.training.settings import LocalTrainingSettings

SURVIVAL_ALONE = LossConfig(alignment=0, disentanglement=0, smoothness=0)


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(60, seed=1)


def train(
    model: AcfNet, cohort: PreparedCohort, *, seed: int = 0, **changes: Any
) -> list[TrainingEvent]:
    settings = LocalTrainingSettings.model_validate(
        {"local_epochs": 4, "validation_share": 0.25, **changes}
    )
    parts = divide_cohort(cohort, validation_share=0.25, seed=seed)
    torch.manual_seed(seed)
    return list(
        train_locally(
            model,
            parts.training,
            settings=settings,
            loss=LossConfig(),
            seed=seed,
            validation=parts.validation,
        )
    )


def judgements(events: list[TrainingEvent]) -> list[PassValidated]:
    return [event for event in events if isinstance(event, PassValidated)]


def keys(cohort: PreparedCohort | None) -> list[str]:
    assert cohort is not None
    return [patient.pseudonym for patient in cohort.patients]


@limits(deadline=None, max_examples=20)
@given(share=st.floats(0.25, 0.5), seed=st.integers(0, 99))
def test_every_patient_is_in_one_part(share: float, seed: int) -> None:
    whole = make_cohort(60, seed=2)
    parts = divide_cohort(whole, validation_share=share, seed=seed)
    trained, kept = keys(parts.training), keys(parts.validation)
    assert sorted(trained + kept) == sorted(keys(whole))
    assert not set(trained) & set(kept)


def test_both_parts_have_their_share_of_events(cohort: PreparedCohort) -> None:
    parts = divide_cohort(with_events(cohort, 40), validation_share=0.25, seed=5)
    assert parts.validation is not None
    assert sum(p.event for p in parts.validation.patients) == 10
    assert sum(p.event for p in parts.training.patients) == 30


def test_one_seed_keeps_the_same_patients(cohort: PreparedCohort) -> None:
    parts = [divide_cohort(cohort, validation_share=0.3, seed=s) for s in (4, 4, 5)]
    one, again, other = (keys(part.validation) for part in parts)
    assert one == again
    assert one != other


def test_no_share_keeps_nobody_back(cohort: PreparedCohort) -> None:
    parts = divide_cohort(cohort, validation_share=0.0, seed=1)
    assert parts.training is cohort
    assert parts.validation is None


@pytest.mark.parametrize(("num_patients", "share"), [(60, 0.1), (19, 0.5)])
def test_a_part_below_the_minimum_cell_is_refused(
    num_patients: int, share: float
) -> None:
    with pytest.raises(DataError, match="validation_share") as caught:
        divide_cohort(make_cohort(num_patients, seed=1), validation_share=share, seed=1)
    assert caught.value.code == "data.validation_too_small"
    assert str(num_patients) not in caught.value.message


def test_the_validation_loss_is_the_mean_survival_term(cohort: PreparedCohort) -> None:
    model = small_model()
    expected = predict_cohort(model, cohort, loss=SURVIVAL_ALONE).loss.mean()
    found = validation_loss(model, cohort, batch_size=7)
    assert found == pytest.approx(expected, rel=1e-6)


def test_judging_leaves_the_model_in_training(cohort: PreparedCohort) -> None:
    model = small_model().train()
    state = torch.get_rng_state()
    validation_loss(model, cohort, batch_size=16)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_the_received_model_and_every_pass_are_judged(cohort: PreparedCohort) -> None:
    events = judgements(train(small_model(), cohort, patience=9))
    assert [event.pass_number for event in events] == [0, 1, 2, 3, 4]


def test_steps_that_end_within_a_pass_are_judged_too(cohort: PreparedCohort) -> None:
    changes: dict[str, Any] = {"local_epochs": None, "local_steps": 8, "patience": 9}
    # 45 patients by 8 are 6 steps a pass.
    events = judgements(train(small_model(), cohort, **changes))
    assert [event.pass_number for event in events] == [0, 1, 2]


def test_what_is_left_is_the_best_that_was_judged(cohort: PreparedCohort) -> None:
    model = small_model()
    events = judgements(train(model, cohort, learning_rate=0.05, patience=9))
    kept = divide_cohort(cohort, validation_share=0.25, seed=0).validation
    assert kept is not None
    best = min(event.loss for event in events)
    assert validation_loss(model, kept, batch_size=8) == pytest.approx(best, rel=1e-6)
    assert any(not event.is_best for event in events[1:])


def test_the_received_parameters_stay_if_nothing_is_better(
    cohort: PreparedCohort,
) -> None:
    model = small_model()
    # Steps this large lead to no useful model.
    events = judgements(train(model, cohort, learning_rate=1.0))
    assert [event.is_best for event in events] == [True, False, False, False]
    pairs = zip(model.parameters(), small_model().parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("patience", [1, 2])
def test_training_ends_when_the_patience_does(
    cohort: PreparedCohort, patience: int
) -> None:
    changes: dict[str, Any] = {"learning_rate": 1.0, "patience": patience}
    events = train(small_model(), cohort, **changes)
    num_steps = sum(isinstance(event, StepFinished) for event in events)
    assert num_steps == 6 * patience


def test_one_seed_stops_at_the_same_bits(cohort: PreparedCohort) -> None:
    one, again = small_model(), small_model()
    for model in (one, again):
        train(model, cohort, seed=3, learning_rate=0.02)
    pairs = zip(one.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_a_share_without_a_part_is_a_mistake(cohort: PreparedCohort) -> None:
    steps = train_locally(
        small_model(),
        cohort,
        settings=LocalTrainingSettings(local_steps=1, validation_share=0.2),
        loss=LossConfig(),
        seed=0,
    )
    with pytest.raises(ValueError, match="divide_cohort"):
        next(steps)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_never_the_best(loss: float) -> None:
    model = small_model()
    best = BestParameters(model)
    best.judge(1.0)
    with torch.no_grad():
        next(model.parameters()).fill_(np.nan)
    assert not best.judge(loss)
    best.restore()
    assert all(bool(p.isfinite().all()) for p in model.parameters())
