from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.summary_cohorts import (
    CONTRACT,
    draw_cohort,
    make_summary,
    with_clinical,
    with_patients,
)

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.summary import spans_of, summarise_site
from acfnet_core.errors import DataError
from acfnet_core.federation.site_summary import FeatureSummary, Moments, SiteSummary
from acfnet_core.federation.summary_releases import release_after

MINIMUM = 10
SPANS = spans_of(CONTRACT)


def summarise(cohort: PreparedCohort) -> SiteSummary:
    return summarise_site(cohort, consortium="crlm", site="hospital-a")


def changed(summary: SiteSummary, **fields: Any) -> SiteSummary:
    return summary.model_copy(update=fields)


def with_feature(summary: SiteSummary, name: str, **fields: Any) -> SiteSummary:
    feature = summary.features[name]
    assert feature is not None
    features = {**summary.features, name: feature.model_copy(update=fields)}
    return changed(summary, features=features)


def pairs_of(new: SiteSummary, old: SiteSummary) -> list[tuple[int, int]]:
    """Return every count that both tell or imply."""
    blocks = [
        (new.outcome, old.outcome),
        *((new.features[name], old.features[name]) for name in new.features),
    ]
    pairs = []
    for one, other in blocks:
        if one is None or other is None:
            continue
        ours, theirs = one.cells(new.num_patients), other.cells(old.num_patients)
        pairs += [(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()]
    return pairs


def test_the_first_release_is_the_summary() -> None:
    assert release_after(make_summary(), [], spans={}) == make_summary()


def test_the_same_summary_is_the_same_release() -> None:
    first = make_summary()
    assert release_after(make_summary(), [first], spans={}) == first


@pytest.mark.parametrize("num_more", [-9, -1, 1, 9])
def test_a_few_patients_more_or_fewer_are_refused(num_more: int) -> None:
    new = changed(make_summary(), num_patients=100 + num_more)
    with pytest.raises(DataError) as caught:
        release_after(new, [make_summary()], spans={})
    assert caught.value.code == "data.summary_too_close"
    assert "release 1" in caught.value.message


def test_how_many_more_there_are_is_not_said() -> None:
    new = changed(make_summary(), num_patients=107)
    with pytest.raises(DataError) as caught:
        release_after(new, [make_summary()], spans={})
    assert "7" not in caught.value.message


def test_every_earlier_release_is_compared_not_the_last_alone() -> None:
    first = make_summary()
    second = changed(first, num_patients=150, release=2)
    with pytest.raises(DataError):
        release_after(changed(first, num_patients=103), [first, second], spans={})


def test_a_changed_summary_has_the_next_number() -> None:
    new = changed(make_summary(), num_patients=150)
    assert release_after(new, [make_summary()], spans={}).release == 2


def test_a_block_in_which_a_few_more_are_counted_is_left_out() -> None:
    new = with_feature(make_summary(), "sex", codes={"1": 57, "2": 43})
    released = release_after(new, [make_summary()], spans={})
    assert released.features["sex"] is None
    assert released.features["age"] == make_summary().features["age"]


def test_a_rest_that_grew_by_few_is_left_out_too() -> None:
    outcome = make_summary().outcome
    assert outcome is not None
    # Of 12 more patients 11 had the event: one more has none.
    new = changed(
        make_summary(),
        num_patients=112,
        outcome=outcome.model_copy(update={"num_events": 61}),
    )
    assert release_after(new, [make_summary()], spans={}).outcome is None


def test_a_mean_that_moved_while_no_count_did_is_left_out() -> None:
    moved = Moments(mean=60.1, standard_deviation=12.0)
    new = with_feature(make_summary(), "age", moments=moved)
    assert release_after(new, [make_summary()], spans=SPANS).features["age"] is None


def test_a_mean_that_few_patients_could_not_have_moved_is_told() -> None:
    moved = Moments(mean=30.0, standard_deviation=12.0)
    new = with_feature(make_summary(), "age", moments=moved)
    told = release_after(new, [make_summary()], spans=SPANS).features["age"]
    assert told is not None
    assert told.moments == moved


def test_a_block_that_was_left_out_once_is_still_compared_with_the_first() -> None:
    first = make_summary()
    moved = Moments(mean=60.1, standard_deviation=12.0)
    new = with_feature(first, "age", moments=moved)
    second = release_after(new, [first], spans=SPANS)
    third = release_after(new, [first, second], spans=SPANS)
    assert third == second


def test_a_contract_of_another_hash_alone_leaves_every_figure() -> None:
    new = changed(make_summary(), contract_sha256="0" * 64)
    released = release_after(new, [make_summary()], spans={})
    assert released == changed(new, release=2)


def test_a_refusal_that_grew_by_few_is_withheld() -> None:
    new = changed(make_summary(), refused={"MISSING_SLICES": 15})
    released = release_after(new, [make_summary()], spans={})
    assert released.refused == {"MISSING_SLICES": None}


@given(
    size=st.integers(MINIMUM, 60),
    num_more=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_no_count_of_two_releases_differs_by_few(
    size: int, num_more: int, seed: int
) -> None:
    cohort = draw_cohort(size + num_more, seed=seed)
    first = summarise(with_patients(cohort, cohort.patients[:size]))
    try:
        second = release_after(summarise(cohort), [first], spans=SPANS)
    except DataError:
        assert 0 < num_more < MINIMUM
        return
    gaps = [abs(one - other) for one, other in pairs_of(second, first)]
    assert [gap for gap in gaps if 0 < gap < MINIMUM] == []


@given(
    seed=st.integers(0, 1000),
    num_changed=st.integers(1, MINIMUM - 1),
    value=st.floats(-3, 3, width=32),
)
@settings(deadline=None, max_examples=40)
def test_what_changed_in_few_patients_is_not_told(
    seed: int, num_changed: int, value: float
) -> None:
    cohort = draw_cohort(40, seed=seed, share_missing=0.0)
    patients = [
        with_clinical(patient, 0, value) if index < num_changed else patient
        for index, patient in enumerate(cohort.patients)
    ]
    first = summarise(cohort)
    again = release_after(
        summarise(with_patients(cohort, patients)), [first], spans=SPANS
    )
    assert again.features["age"] in (None, first.features["age"])


def test_features_that_are_new_are_told() -> None:
    first = make_summary()
    features = {**first.features, "weight": FeatureSummary(num_known=100)}
    released = release_after(changed(first, features=features), [first], spans={})
    assert released.features["weight"] is not None
