from typing import Any

import pytest
from references.summary_cohorts import CONTRACT, make_summary

from acf_server.site_data_difference import DriftWarning
from acf_server.site_data_drift import find_drift
from acfnet_core.federation.site_summary import (
    FeatureSummary,
    Moments,
    Quartiles,
    SiteSummary,
)


def changed_block(summary: SiteSummary, block: str, **fields: Any) -> SiteSummary:
    part = getattr(summary, block).model_copy(update=fields)
    return summary.model_copy(update={block: part})


def with_feature(name: str, feature: FeatureSummary) -> SiteSummary:
    summary = make_summary("hospital-b")
    features = {**summary.features, name: feature}
    return summary.model_copy(update={"features": features})


def drift_of(*summaries: SiteSummary) -> tuple[DriftWarning, ...]:
    return find_drift(summaries, contract_sha256=CONTRACT.sha256())


def number(mean: float, deviation: float = 12.0, known: int = 100) -> FeatureSummary:
    moments = Moments(mean=mean, standard_deviation=deviation)
    return FeatureSummary(num_known=known, moments=moments)


SITE_A = make_summary("hospital-a")
SITE_B = make_summary("hospital-b")
THIN = changed_block(SITE_B, "scans", slice_spacing_mm=Quartiles(median=1.0))
DARK = changed_block(
    SITE_B, "scans", liver_hu=Moments(mean=55.0, standard_deviation=15.0)
)
SICK = changed_block(SITE_B, "outcome", num_events=80)
OLD = with_feature("age", number(70.0))
MEN = with_feature("sex", FeatureSummary(num_known=100, codes={"1": 90, "2": 10}))
SPARSE = with_feature("age", number(60.0, known=70))
FOREIGN = SITE_B.model_copy(update={"contract_sha256": "0" * 64})


def test_like_sites_give_no_warning() -> None:
    assert drift_of(SITE_A, SITE_B) == ()


def test_one_site_is_compared_with_none() -> None:
    assert drift_of(SITE_A) == ()


def test_no_sites_give_no_warning() -> None:
    assert drift_of() == ()


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (THIN, "slice_spacing"),
        (DARK, "liver_hu"),
        (SICK, "event_rate"),
        (OLD, "feature"),
        (MEN, "feature"),
        (SPARSE, "missing"),
        (FOREIGN, "contract"),
    ],
    ids=["thin", "dark", "sick", "old", "men", "sparse", "foreign"],
)
def test_each_difference_is_found_alone(other: SiteSummary, kind: str) -> None:
    assert [warning.kind for warning in drift_of(SITE_A, other)] == [kind]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (THIN, ["hospital-b 1 mm (n 80)", "hospital-a 2.5 mm (n 80)"]),
        (DARK, ["55 (sd 15)", "100 (sd 15)", "n 80"]),
        (SICK, ["50 %", "80 %", "n 100", "followed 4 years"]),
        (OLD, ["age, mean", "60 (sd 12)", "70 (sd 12)", "n 100"]),
        (MEN, ["sex = ", "60 %", "90 %"]),
        (SPARSE, ["age, missing", "0 %", "30 %"]),
    ],
    ids=["thin", "dark", "sick", "old", "men", "sparse"],
)
def test_a_warning_says_which_figures_of_which_sites(
    other: SiteSummary, words: list[str]
) -> None:
    (warning,) = drift_of(SITE_A, other)
    text = warning.describe()
    assert [
        word for word in (*words, "hospital-a", "hospital-b") if word not in text
    ] == []


@pytest.mark.parametrize(
    "other",
    [
        changed_block(SITE_B, "scans", slice_spacing_mm=Quartiles(median=5.0)),
        changed_block(
            SITE_B, "scans", liver_hu=Moments(mean=114.0, standard_deviation=15.0)
        ),
        changed_block(SITE_B, "outcome", num_events=60),
        with_feature("age", number(65.9)),
        with_feature("age", number(60.0, known=81)),
    ],
    ids=["twice the spacing", "14 HU", "10 points", "0.49 sd", "19 points"],
)
def test_a_difference_within_its_threshold_is_none(other: SiteSummary) -> None:
    assert drift_of(SITE_A, other) == ()


def test_a_small_spread_of_livers_makes_a_smaller_difference_count() -> None:
    pair = [
        changed_block(site, "scans", liver_hu=Moments(mean=m, standard_deviation=3.0))
        for site, m in ((SITE_A, 100.0), (SITE_B, 110.0))
    ]
    assert [warning.kind for warning in drift_of(*pair)] == ["liver_hu"]


def test_of_few_patients_a_difference_that_chance_makes_is_none() -> None:
    pair = [
        summary.model_copy(
            update={
                "num_patients": 12,
                "outcome": None,
                "features": {"age": number(mean, known=12)},
            }
        )
        for summary, mean in ((SITE_A, 60.0), (SITE_B, 68.0))
    ]
    kinds = [warning.kind for warning in drift_of(*pair)]
    assert "feature" not in kinds


def test_the_pair_that_differs_most_is_named_and_the_others_counted() -> None:
    far = changed_block(
        make_summary("hospital-c"), "scans", slice_spacing_mm=Quartiles(median=0.5)
    )
    (warning,) = drift_of(SITE_A, SITE_B, far)
    assert warning.num_more_pairs == 1
    assert warning.sites == ("hospital-c", "hospital-a")
    assert "1 more pair" in warning.describe()


@pytest.mark.parametrize("block", ["outcome", "scans"])
def test_what_is_not_told_is_not_compared(block: str) -> None:
    silent = SITE_B.model_copy(update={block: None})
    assert drift_of(SITE_A, silent) == ()


def test_figures_without_a_number_of_patients_are_compared() -> None:
    hidden = with_feature(
        "age", FeatureSummary(num_known=None, moments=number(75.0).moments)
    )
    (warning,) = drift_of(SITE_A, hidden)
    assert "n >= 91" in warning.figures
