import pytest

from acfnet_core.evaluation.headline import clinical_reference, write_headline
from acfnet_core.evaluation.scoring import HIGHER_IS_BETTER, conclude
from acfnet_core.evaluation.verdict import (
    Interval,
    Metric,
    ModelScore,
    PairedDifference,
)


def score_of(name: str, harrell: float, brier: float) -> ModelScore:
    return ModelScore(
        name=name,
        num_patients=40,
        harrell_c=Interval(estimate=harrell),
        uno_c=None,
        auc_by_year={},
        integrated_brier=Interval(estimate=brier),
        scaled_brier=None,
        calibration=[],
        observed_expected={},
    )


def difference_of(
    reference: str, metric: Metric, interval: Interval | None
) -> PairedDifference:
    better = HIGHER_IS_BETTER[metric]
    return PairedDifference(
        model="4D-ACFNet",
        reference=reference,
        metric=metric,
        num_patients=40,
        interval=interval,
        higher_is_better=better,
        conclusion=conclude(interval, higher_is_better=better, num_events=16),
    )


def headline_of(harrell: Interval | None, brier: Interval | None) -> str:
    return write_headline(
        40,
        16,
        [
            score_of("4D-ACFNet", 0.64, 0.21),
            score_of("ridge Cox", 0.60, 0.22),
            score_of("Kaplan-Meier", 0.5, 0.23),
        ],
        [
            difference_of("ridge Cox", "harrell_c", harrell),
            difference_of("Kaplan-Meier", "integrated_brier", brier),
        ],
    )


def test_a_gain_is_said_with_n_figures_and_interval() -> None:
    gain = Interval(estimate=0.04, low=0.01, high=0.07)
    assert headline_of(gain, None).startswith(
        "On 40 held-out patients (16 events), 4D-ACFNet is better than ridge Cox in "
        "Harrell's C (0.640 against 0.600, difference +0.040, 95 % interval +0.010 to "
        "+0.070)"
    )


def test_an_interval_with_zero_is_no_evidence() -> None:
    open_question = Interval(estimate=0.04, low=-0.02, high=0.1)
    words = "there is no evidence of a difference between 4D-ACFNet and ridge Cox"
    assert words in headline_of(open_question, None)


def test_a_loss_is_said_as_plainly() -> None:
    loss = Interval(estimate=-0.05, low=-0.08, high=-0.02)
    words = "ridge Cox is better than 4D-ACFNet in Harrell's C"
    assert words in headline_of(loss, None)


def test_a_lower_brier_score_is_a_gain() -> None:
    gain = Interval(estimate=-0.02, low=-0.03, high=-0.01)
    words = "4D-ACFNet is better than Kaplan-Meier in the integrated Brier score"
    assert words in headline_of(None, gain)


def test_an_undetermined_difference_is_said() -> None:
    words = "4D-ACFNet and ridge Cox cannot be compared in Harrell's C"
    assert words in headline_of(None, None)


@pytest.mark.parametrize(
    ("names", "reference"),
    [
        (["Kaplan-Meier", "Fong score", "ridge Cox"], "ridge Cox"),
        (["Kaplan-Meier", "Fong score"], "Fong score"),
        (["Kaplan-Meier"], None),
    ],
)
def test_the_clinical_reference_is_cox_or_else_fong(
    names: list[str], reference: str | None
) -> None:
    assert clinical_reference(names) == reference


def test_one_patient_is_singular() -> None:
    assert write_headline(1, 1, [], []).startswith("On 1 held-out patient (1 event),")


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "expected"),
    [
        (0.01, 0.02, True, "better"),
        (0.01, 0.02, False, "worse"),
        (-0.02, -0.01, True, "worse"),
        (-0.02, -0.01, False, "better"),
        (0.0, 0.02, True, "no_evidence"),
        (None, None, True, "undetermined"),
    ],
)
def test_a_difference_is_read_from_its_interval(
    low: float | None, high: float | None, higher_is_better: bool, expected: str
) -> None:
    interval = Interval(estimate=0.0, low=low, high=high)
    found = conclude(interval, higher_is_better=higher_is_better, num_events=10)
    assert found == expected


def test_nine_events_conclude_nothing() -> None:
    gain = Interval(estimate=0.1, low=0.05, high=0.2)
    assert conclude(gain, higher_is_better=True, num_events=9) == "undetermined"
