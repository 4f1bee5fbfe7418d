import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.survival_cohorts import make_outcomes
from references.survival_metrics import slow_partial_likelihood
from sksurv.linear_model import CoxPHSurvivalAnalysis

from acfnet_core.errors import DataError
from acfnet_core.evaluation.baselines import FongScore, KaplanMeierBaseline, RidgeCox

COHORT = make_outcomes(61, 100)
GENERATOR_SEED = 62
NUM_FEATURES = 4


def make_features(seed: int, num_patients: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_patients, NUM_FEATURES))


FEATURES = make_features(GENERATOR_SEED, 100) + 0.5 * COHORT.covariate[:, None]
PRESENT = np.ones_like(FEATURES, dtype=np.bool_)


def fit(alpha: float = 1.0) -> RidgeCox:
    return RidgeCox.fit(
        FEATURES, PRESENT, COHORT.time_months, COHORT.event, alpha=alpha
    )


@pytest.mark.parametrize("alpha", [0.01, 1.0, 50.0])
def test_coefficients_equal_scikit_survival(alpha: float) -> None:
    reference = CoxPHSurvivalAnalysis(alpha=alpha, tol=1e-12)
    reference.fit(FEATURES, COHORT.structured())
    assert fit(alpha).coefficient == pytest.approx(reference.coef_, abs=1e-6)


def test_survival_equals_scikit_survival() -> None:
    reference = CoxPHSurvivalAnalysis(alpha=1.0, tol=1e-12)
    reference.fit(FEATURES, COHORT.structured())
    months = np.arange(COHORT.time_months.min(), 40.0)
    expected = [one(months) for one in reference.predict_survival_function(FEATURES)]
    ours = fit().predict_survival(FEATURES, PRESENT, months)
    assert ours == pytest.approx(np.stack(expected), abs=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99))
def test_no_nearby_coefficients_have_a_higher_likelihood(seed: int) -> None:
    few = slice(0, 25)
    arrays = (FEATURES[few], COHORT.time_months[few], COHORT.event[few])
    found = RidgeCox.fit(arrays[0], PRESENT[few], *arrays[1:], alpha=2.0).coefficient
    aside = found + np.random.default_rng(seed).normal(scale=0.05, size=NUM_FEATURES)
    best = slow_partial_likelihood(*arrays, found, 2.0)
    assert slow_partial_likelihood(*arrays, aside, 2.0) < best


def test_a_larger_penalty_shrinks() -> None:
    norms = [np.linalg.norm(fit(alpha).coefficient) for alpha in (0.1, 10.0, 1000.0)]
    assert norms == sorted(norms, reverse=True)


def test_centre_and_scale_act_as_standardising_beforehand() -> None:
    centre, scale = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 0.5, 4.0])
    ours = RidgeCox.fit(
        FEATURES * scale + centre,
        PRESENT,
        COHORT.time_months,
        COHORT.event,
        alpha=1.0,
        centre=centre,
        scale=scale,
    )
    assert ours.coefficient == pytest.approx(fit().coefficient)


def test_what_stands_in_masked_places_has_no_influence() -> None:
    mask = np.random.default_rng(63).random(FEATURES.shape) > 0.2
    spoilt = np.where(mask, FEATURES, np.nan)
    outcomes = (COHORT.time_months, COHORT.event)
    clean = RidgeCox.fit(FEATURES, mask, *outcomes)
    ours = RidgeCox.fit(spoilt, mask, *outcomes)
    assert np.array_equal(ours.coefficient, clean.coefficient)
    assert np.isfinite(ours.predict_log_hazard(spoilt, mask)).all()


def test_a_missing_value_becomes_the_training_mean() -> None:
    mask = PRESENT.copy()
    mask[::3, 0] = False
    model = RidgeCox.fit(FEATURES, mask, COHORT.time_months, COHORT.event)
    assert model.fill[0] == pytest.approx(FEATURES[mask[:, 0], 0].mean())


def test_a_feature_that_nobody_has_gets_no_coefficient() -> None:
    mask = PRESENT.copy()
    mask[:, 2] = False
    model = RidgeCox.fit(FEATURES, mask, COHORT.time_months, COHORT.event)
    assert model.coefficient[2] == 0.0


def test_a_perfectly_separating_feature_still_converges() -> None:
    time = np.arange(1.0, 31.0)
    model = RidgeCox.fit(
        -10.0 * time[:, None],
        np.ones((30, 1), dtype=np.bool_),
        time,
        np.ones(30, dtype=np.bool_),
        alpha=1e-3,
    )
    assert np.isfinite(model.coefficient).all()


def test_survival_is_one_before_the_first_event_and_never_rises() -> None:
    survival = fit().predict_survival(FEATURES, PRESENT, np.arange(0.0, 100.0))
    assert np.all(survival[:, 0] == 1.0)
    assert np.all(np.diff(survival, axis=1) <= 0)


def test_no_event_is_refused() -> None:
    nobody = np.zeros_like(COHORT.event)
    with pytest.raises(DataError, match="None of the 100 training patients") as caught:
        RidgeCox.fit(FEATURES, PRESENT, COHORT.time_months, nobody)
    assert caught.value.code == "data.no_events"


def test_a_penalty_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha is 0\.0; it and every scale must"):
        fit(0.0)


def test_a_missing_fong_score_is_the_training_median() -> None:
    score = np.clip(np.round(COHORT.covariate + 2.0), 0.0, 5.0)
    score[:10] = np.nan
    model = FongScore.fit(score, COHORT.time_months, COHORT.event)
    months = np.array([12.0, 36.0])
    both = np.array([np.nan, np.nanmedian(score)])
    unknown, median = model.predict_survival(both, months)
    assert np.array_equal(unknown, median)


def test_the_fong_score_is_cox_on_the_score() -> None:
    score = np.clip(np.round(COHORT.covariate + 2.0), 0.0, 5.0)
    reference = CoxPHSurvivalAnalysis(alpha=1e-3, tol=1e-12)
    reference.fit(score[:, None], COHORT.structured())
    model = FongScore.fit(score, COHORT.time_months, COHORT.event)
    assert model.cox.coefficient == pytest.approx(reference.coef_, abs=1e-6)


def test_a_cohort_without_fong_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="No patient has a Fong score"):
        FongScore.fit(np.full(100, np.nan), COHORT.time_months, COHORT.event)


def test_kaplan_meier_predicts_the_same_for_everybody() -> None:
    baseline = KaplanMeierBaseline.fit(COHORT.time_months, COHORT.event)
    months = np.array([6.0, 24.0])
    rows = baseline.predict_survival(3, months)
    assert rows.tolist() == [baseline.curve.at(months).tolist()] * 3
