"""Admission of two vectors in one: the parameters, and a control variate's change."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.round_messages import make_reply

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import AdmissionRules, AdmittedUpdate, admit
from acfnet_core.federation.messages import CohortCounts
from acfnet_core.federation.parameters import sha256_of
from acfnet_core.federation.strategies.local_only import admit_without_parameters

NUM_VALUES = 6
RULES = AdmissionRules(
    num_values=2 * NUM_VALUES,
    max_examples=100,
    max_update_norm=10.0,
    max_control_norm=2.0,
)
SENT = np.concatenate([np.ones(NUM_VALUES), np.full(NUM_VALUES, 50.0)]).astype("f4")
GOOD = np.concatenate([np.full(NUM_VALUES, 1.5), np.full(NUM_VALUES, 0.1)]).astype("f4")


def _admit(vector: np.ndarray, **changes: Any) -> AdmittedUpdate:
    content = {"parameters_sha256": sha256_of(vector), **changes}
    return admit(make_reply(**content), vector, base=SENT, rules=RULES)


def _reason(vector: np.ndarray, **changes: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        _admit(vector, **changes)
    assert caught.value.code == "protocol.update_refused"
    return caught.value.message


def test_both_halves_are_admitted_as_they_came() -> None:
    assert _admit(GOOD).parameters.tobytes() == GOOD.tobytes()


def test_the_update_norm_is_of_the_first_half_alone() -> None:
    assert _admit(GOOD).update_norm == pytest.approx(0.5 * NUM_VALUES**0.5)


@settings(deadline=None, max_examples=30)
@given(place=st.integers(0, 2 * NUM_VALUES - 1), bad=st.sampled_from([np.nan, np.inf]))
def test_neither_half_may_hold_what_is_not_finite(place: int, bad: float) -> None:
    vector = GOOD.copy()
    vector[place] = bad
    assert "not finite" in _reason(vector)


def test_a_second_half_that_is_too_long_is_refused() -> None:
    vector = GOOD.copy()
    vector[-1] = 3.0
    assert "the control variate's change has the norm 3.01; at most 2" in _reason(
        vector
    )


def test_a_first_half_that_is_too_long_is_refused() -> None:
    vector = GOOD.copy()
    vector[0] = 20.0
    assert "the update's norm is 19" in _reason(vector)


@pytest.mark.parametrize("num_values", [NUM_VALUES, 2 * NUM_VALUES + 1, 0])
def test_one_half_alone_is_refused(num_values: int) -> None:
    assert "expected float32[12]" in _reason(np.zeros(num_values, np.float32))


def test_the_hash_is_of_both_halves() -> None:
    half = sha256_of(GOOD[:NUM_VALUES])
    assert "do not match their hash" in _reason(GOOD, parameters_sha256=half)


def _counts(num_events: int | None) -> CohortCounts:
    return CohortCounts(
        num_patients=40,
        num_events=num_events,
        num_with_scans=None,
        num_scans=None,
        followed_months=None,
    )


@pytest.mark.parametrize("num_events", [None, 0, 22, 100])
def test_events_are_taken_as_they_are_told(num_events: int | None) -> None:
    assert _admit(GOOD, counts=_counts(num_events)).num_events == num_events


@pytest.mark.parametrize("num_events", [101, 10**9])
def test_more_events_than_a_site_may_have_patients_are_refused(num_events: int) -> None:
    reason = _reason(GOOD, counts=_counts(num_events))
    assert f"num_events is {num_events}; expected 0 to 100" in reason


def _admit_without(*, has_sent: bool = False, **changes: Any) -> AdmittedUpdate:
    return admit_without_parameters(
        make_reply(**changes), base=SENT, rules=RULES, has_sent=has_sent
    )


def test_a_site_that_keeps_its_parameters_counts_with_the_global_ones() -> None:
    update = _admit_without()
    assert update.parameters is SENT
    assert (update.num_examples, update.num_events, update.update_norm) == (40, 22, 0.0)


@pytest.mark.parametrize(
    ("has_sent", "changes"), [(True, {}), (False, {"parameters_sha256": "a" * 64})]
)
def test_parameters_that_were_to_stay_at_the_site_are_refused(
    has_sent: bool, changes: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError, match="parameters that were not asked for"):
        _admit_without(has_sent=has_sent, **changes)


def test_a_count_is_checked_without_parameters_too() -> None:
    with pytest.raises(ProtocolError, match="num_examples is 101"):
        _admit_without(num_examples=101)
