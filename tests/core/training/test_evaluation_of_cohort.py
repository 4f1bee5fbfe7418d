import dataclasses

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort, with_events
from references.site_rounds import small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.evaluation.discrimination import harrell_c
from acfnet_core.federation.messages import SiteMetrics
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.batches import make_batch
from acfnet_core.training.evaluation import (
    CohortPrediction,
    finite_mean,
    predict_cohort,
    site_metrics,
)


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(40, seed=1)


@pytest.fixture(scope="module")
def prediction(cohort: PreparedCohort) -> CohortPrediction:
    return predict_cohort(small_model(), cohort, loss=LossConfig())


def _metrics(num_patients: int, num_events: int) -> SiteMetrics:
    cohort = with_events(make_cohort(num_patients, seed=2), num_events)
    prediction = predict_cohort(small_model(), cohort, loss=LossConfig())
    return site_metrics(prediction, minimum_cell=10)


def test_every_patient_is_predicted_in_the_cohorts_order(
    cohort: PreparedCohort, prediction: CohortPrediction
) -> None:
    model = small_model().eval()
    for index in (0, 17, 39):
        batch = make_batch(cohort, [index], model.config, torch.device("cpu"))
        with torch.no_grad():
            output = model(batch.inputs)
            terms = total_loss(
                output, time_bin=batch.time_bin, kind=batch.kind, config=LossConfig()
            )
        np.testing.assert_allclose(
            prediction.survival[index], output.survival[0].numpy(), rtol=1e-5
        )
        assert prediction.loss[index] == pytest.approx(terms.total.item(), rel=1e-5)


def test_outcomes_stand_beside_the_predictions(
    cohort: PreparedCohort, prediction: CohortPrediction
) -> None:
    assert prediction.time_months.tolist() == [p.time_months for p in cohort.patients]
    assert prediction.event.tolist() == [p.event == 1 for p in cohort.patients]


def test_predicting_twice_gives_the_same_bits(
    cohort: PreparedCohort, prediction: CohortPrediction
) -> None:
    again = predict_cohort(small_model().train(), cohort, loss=LossConfig())
    assert again.survival.tobytes() == prediction.survival.tobytes()


def test_the_metrics_are_those_of_the_predictions(prediction: CohortPrediction) -> None:
    metrics = site_metrics(prediction, minimum_cell=10)
    risk = -prediction.survival.mean(axis=1)
    assert metrics.num_patients == 40
    assert metrics.num_events == prediction.event.sum()
    assert metrics.loss == prediction.loss.mean()
    assert metrics.harrell_c == harrell_c(
        prediction.time_months, prediction.event, risk
    )


def test_below_the_cell_of_patients_nothing_is_told() -> None:
    metrics = _metrics(9, 5)
    assert set(metrics.model_dump().values()) == {None}


@pytest.mark.parametrize(("num_patients", "num_events"), [(30, 9), (30, 21), (19, 10)])
def test_below_the_cell_of_events_or_non_events_no_concordance_is_told(
    num_patients: int, num_events: int
) -> None:
    metrics = _metrics(num_patients, num_events)
    assert (metrics.num_events, metrics.harrell_c) == (None, None)
    assert metrics.num_patients == num_patients


def test_at_the_cell_everything_is_told() -> None:
    assert None not in _metrics(20, 10).model_dump().values()


def test_a_model_that_gives_no_numbers_has_no_figures(
    prediction: CohortPrediction,
) -> None:
    broken = dataclasses.replace(
        prediction,
        survival=np.full_like(prediction.survival, np.nan),
        loss=np.full_like(prediction.loss, np.nan),
    )
    metrics = site_metrics(broken, minimum_cell=10)
    assert (metrics.loss, metrics.harrell_c) == (None, None)
    assert metrics.num_patients == 40


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 2.0], 1.5), ([1.0, np.inf], None), ([np.nan], None)]
)
def test_a_mean_that_is_not_finite_is_null(
    values: list[float], expected: float | None
) -> None:
    assert finite_mean(np.array(values)) == expected
