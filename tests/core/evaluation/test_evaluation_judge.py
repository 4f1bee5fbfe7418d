from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.survival_cohorts import (
    Outcomes,
    exponential_survival,
    make_outcomes,
)
from sksurv.metrics import concordance_index_ipcw, integrated_brier_score

from acfnet_core.evaluation.held_out import HeldOut
from acfnet_core.evaluation.judge import judge
from acfnet_core.evaluation.scoring import Predictions
from acfnet_core.evaluation.survival_curve import (
    interpolate_survival,
    restricted_mean_months,
)
from acfnet_core.evaluation.verdict import ModelScore, Verdict

EDGES = np.arange(1, 17) * 6.0
TRAIN = make_outcomes(71, 300, censored_after=200.0)


def curves_of(cohort: Outcomes, strength: float) -> np.ndarray:
    return exponential_survival(0.03 * np.exp(strength * cohort.covariate), EDGES)


def judge_cohort(
    cohort: Outcomes,
    num_bootstrap: int = 50,
    minimum_cell: int = 10,
    supported_months: float | None = None,
    past_support: float = 1.0,
) -> Verdict:
    limit = EDGES[-1] if supported_months is None else supported_months
    lowered = np.where(limit < EDGES, past_support, 1.0)
    return judge(
        time_months=cohort.time_months,
        event=cohort.event,
        predictions={
            "4D-ACFNet": curves_of(cohort, 0.7) * lowered,
            "ridge Cox": curves_of(cohort, -0.7),
            "Fong score": curves_of(cohort, 0.2),
        },
        bin_edges_months=EDGES,
        train_time_months=TRAIN.time_months,
        train_event=TRAIN.event,
        num_bootstrap=num_bootstrap,
        minimum_cell=minimum_cell,
        supported_months=supported_months,
    )


COHORT = make_outcomes(72, 80, censored_after=150.0)
VERDICT = judge_cohort(COHORT)
HELD_OUT = HeldOut.prepare(
    COHORT.time_months,
    COHORT.event,
    EDGES,
    train_time_months=TRAIN.time_months,
    train_event=TRAIN.event,
    tau_months=96.0,
    num_bootstrap=0,
    bootstrap_seed=0,
    minimum_cell=10,
)


def judge_outcomes(time: list[float], event: list[bool]) -> Verdict:
    times = np.array(time)
    survival = exponential_survival(np.linspace(0.01, 0.05, times.size), EDGES)
    return judge(
        time_months=times,
        event=np.array(event),
        predictions={"4D-ACFNet": survival},
        bin_edges_months=EDGES,
        num_bootstrap=20,
    )


def test_the_json_reads_back_as_the_same_verdict() -> None:
    assert Verdict.model_validate_json(VERDICT.model_dump_json()) == VERDICT


def test_the_judged_model_comes_first_and_kaplan_meier_is_added() -> None:
    names = [one.name for one in VERDICT.scores]
    assert names == ["4D-ACFNet", "ridge Cox", "Fong score", "Kaplan-Meier"]


def test_every_reference_is_compared_in_every_metric() -> None:
    found = {(one.reference, one.metric) for one in VERDICT.differences}
    assert len(found) == len(VERDICT.differences) == 9


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert judge_cohort(COHORT) == VERDICT


def test_the_uno_c_of_a_verdict_equals_scikit_survival() -> None:
    curves = curves_of(COHORT, 0.7)
    risk = -restricted_mean_months(curves, EDGES, VERDICT.tau_months)
    expected = concordance_index_ipcw(
        TRAIN.structured(), COHORT.structured(), risk, tau=VERDICT.tau_months
    )
    uno = VERDICT.scores[0].uno_c
    assert uno is not None
    assert uno.estimate == pytest.approx(expected[0], abs=1e-9)


def test_the_integrated_brier_of_a_verdict_equals_scikit_survival() -> None:
    assert VERDICT.brier_window_months is not None
    first, last = VERDICT.brier_window_months
    months = np.arange(first, last + 1.0)
    curves = interpolate_survival(curves_of(COHORT, 0.7), EDGES, months)
    expected = integrated_brier_score(
        TRAIN.structured(), COHORT.structured(), curves, months
    )
    found = VERDICT.scores[0].integrated_brier
    assert found is not None
    assert found.estimate == pytest.approx(expected, abs=1e-9)


def test_kaplan_meier_scores_zero_on_the_scaled_brier() -> None:
    found = VERDICT.scores[-1].scaled_brier
    assert found is not None
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_true_model_beats_the_reversed_one() -> None:
    assert "4D-ACFNet is better than ridge Cox in Harrell's C" in VERDICT.headline


def test_risk_thirds_part_under_the_true_model() -> None:
    assert len(VERDICT.risk_groups) == 3
    assert VERDICT.log_rank_p is not None
    assert VERDICT.log_rank_p < 0.01


def test_few_events_are_warned_of() -> None:
    few = make_outcomes(73, 30, censored_after=30.0)
    num_events = int(few.event.sum())
    warnings = judge_cohort(few).warnings
    assert any(
        one.startswith(f"{num_events} events: intervals are wide") for one in warnings
    )


def test_without_training_outcomes_the_reader_is_told() -> None:
    found = judge_outcomes([5.0, 9.0, 20.0], [True, False, True])
    assert any("No training outcomes were at hand" in one for one in found.warnings)
    assert found.num_training_patients is None


def figures_of(score: ModelScore) -> list[object]:
    return [
        score.harrell_c,
        score.uno_c,
        *score.auc_by_year.values(),
    ]


def test_without_events_no_discrimination_is_made_up() -> None:
    found = judge_outcomes([10.0, 90.0, 100.0], [False, False, False])
    assert figures_of(found.scores[0]) == [None] * 5
    assert found.temporal_adjacency is None
    assert "No held-out patient has an event" in found.warnings[1]


def test_one_patient_gets_a_verdict_without_discrimination() -> None:
    found = judge_outcomes([30.0], [True])
    assert figures_of(found.scores[0]) == [None] * 5
    assert "4D-ACFNet and Kaplan-Meier cannot be compared" in found.headline


def test_nobody_followed_to_five_years_leaves_that_year_out() -> None:
    found = judge_outcomes([10.0, 20.0, 30.0, 50.0], [True, True, False, True])
    score = found.scores[0]
    assert score.auc_by_year["5"] is None
    assert score.observed_expected["5"] is None
    assert any("Nobody is followed beyond 5 years" in one for one in found.warnings)


def test_a_short_follow_up_shortens_the_horizon_and_says_so() -> None:
    found = judge_outcomes([10.0, 20.0, 30.0, 50.0], [True, True, False, True])
    assert found.tau_months <= 50.0
    assert any("instead of 96 months" in one for one in found.warnings)


def test_equal_predictions_draw_no_thirds() -> None:
    cohort = make_outcomes(74, 40)
    found = judge(
        time_months=cohort.time_months,
        event=cohort.event,
        predictions={"4D-ACFNet": np.tile(np.linspace(0.9, 0.3, 16), (40, 1))},
        bin_edges_months=EDGES,
        num_bootstrap=10,
    )
    assert found.risk_groups == []
    assert found.log_rank_p is None
    assert any("share one predicted risk" in one for one in found.warnings)


def test_a_patient_without_prediction_is_left_out_and_counted() -> None:
    curves = curves_of(COHORT, 0.7)
    curves[:5] = np.nan
    found = judge(
        time_months=COHORT.time_months,
        event=COHORT.event,
        predictions={"4D-ACFNet": curves, "ridge Cox": curves_of(COHORT, 0.2)},
        bin_edges_months=EDGES,
        num_bootstrap=10,
    )
    assert [one.num_patients for one in found.scores] == [75, 80, 80]
    assert found.differences[0].num_patients == 75
    assert any("no prediction for 5 of 80" in one for one in found.warnings)


def test_a_model_without_any_prediction_gets_no_figure() -> None:
    found = judge(
        time_months=COHORT.time_months,
        event=COHORT.event,
        predictions={"4D-ACFNet": np.full((80, 16), np.nan)},
        bin_edges_months=EDGES,
        num_bootstrap=10,
    )
    assert figures_of(found.scores[0]) == [None] * 5
    assert found.scores[0].integrated_brier is None
    assert "cannot be compared" in found.headline


def test_a_curve_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="79 predicted curves for 80 held-out"):
        Predictions(HELD_OUT, curves_of(COHORT, 0.7)[1:])


def test_a_figure_on_a_subset_equals_judging_the_subset() -> None:
    curves = curves_of(COHORT, 0.7)
    curves[:5] = np.nan
    whole = judge(
        time_months=COHORT.time_months,
        event=COHORT.event,
        predictions={"4D-ACFNet": curves},
        bin_edges_months=EDGES,
        train_time_months=TRAIN.time_months,
        train_event=TRAIN.event,
        num_bootstrap=0,
        tau_months=40.0,
    )
    part = judge(
        time_months=COHORT.time_months[5:],
        event=COHORT.event[5:],
        predictions={"4D-ACFNet": curves[5:]},
        bin_edges_months=EDGES,
        train_time_months=TRAIN.time_months,
        train_event=TRAIN.event,
        num_bootstrap=0,
        tau_months=40.0,
    )
    assert whole.scores[0].uno_c == part.scores[0].uno_c


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.tuples(st.integers(0, 120), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_no_outcomes_make_it_fail(drawn: list[tuple[int, bool]]) -> None:
    time, event = zip(*drawn, strict=True)
    found = judge_outcomes([float(one) for one in time], list(event))
    assert found.num_events == sum(event)


def test_500_resamples_of_four_models_take_seconds() -> None:
    cohort = make_outcomes(75, 200, censored_after=150.0)
    started = process_time()
    judge_cohort(cohort, num_bootstrap=500)
    assert process_time() - started < 10.0


def test_no_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="no predictions to judge"):
        judge(
            time_months=np.array([1.0]),
            event=np.array([True]),
            predictions={},
            bin_edges_months=EDGES,
        )


def test_half_of_the_training_outcomes_is_refused() -> None:
    with pytest.raises(ValueError, match="Give both train_time_months"):
        judge(
            time_months=np.array([1.0]),
            event=np.array([True]),
            predictions={"4D-ACFNet": np.full((1, 16), 0.5)},
            bin_edges_months=EDGES,
            train_time_months=np.array([1.0]),
        )


def test_without_a_limit_the_whole_curve_is_supported() -> None:
    assert VERDICT.supported_months == 96.0
    assert not any("at risk to train on" in warning for warning in VERDICT.warnings)


def test_no_figure_depends_on_curves_beyond_what_is_supported() -> None:
    one, other = (
        judge_cohort(COHORT, supported_months=48.0, past_support=factor)
        for factor in (1.0, 0.1)
    )
    assert one == other


def test_years_beyond_what_is_supported_are_left_out_and_said() -> None:
    verdict = judge_cohort(COHORT, supported_months=48.0)
    score = verdict.scores[0]
    assert score.auc_by_year["3"] is not None
    assert score.auc_by_year["5"] is None
    assert score.observed_expected["5"] is None
    assert {group.year for group in score.calibration} == {1, 3}
    assert any(warning.startswith("5 years: beyond") for warning in verdict.warnings)


def test_horizons_end_with_what_is_supported_and_say_so() -> None:
    verdict = judge_cohort(COHORT, supported_months=48.0)
    assert (verdict.tau_months, verdict.supported_months) == (48.0, 48.0)
    assert verdict.brier_window_months == (6.0, 48.0)
    text = " ".join(verdict.warnings)
    assert "After 48 months no site had 10 patients left at risk to train on" in text
    assert "What the model can tell ends at 48.0 months" in text
    assert "Follow-up ends" not in text


def test_a_year_that_ends_with_the_support_is_judged() -> None:
    score = judge_cohort(COHORT, supported_months=60.0).scores[0]
    assert score.auc_by_year["5"] is not None


def test_support_below_the_window_leaves_no_brier_score() -> None:
    score = judge_cohort(COHORT, supported_months=6.0).scores[0]
    assert score.integrated_brier is None
    assert score.auc_by_year["1"] is None


def test_a_support_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="supported_months is 0"):
        judge_cohort(COHORT, supported_months=0.0)
