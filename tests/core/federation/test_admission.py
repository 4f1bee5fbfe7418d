from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.round_messages import SITE, make_reply, make_request

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import (
    AdmissionRules,
    AdmittedUpdate,
    admit,
    check_reply,
)
from acfnet_core.federation.parameters import sha256_of

NUM_VALUES = 20
RULES = AdmissionRules(num_values=NUM_VALUES, max_examples=1000, max_update_norm=10.0)
BASE = np.linspace(-1.0, 1.0, NUM_VALUES, dtype=np.float32)
GOOD = BASE + np.float32(0.5)

POSITIONS = st.integers(0, NUM_VALUES - 1)
NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])


def _admit(parameters: np.ndarray, **changes: Any) -> AdmittedUpdate:
    """Admit with the hash that these very bytes have, unless it is changed."""
    as_floats = parameters.astype(np.float32).reshape(-1)
    reply = make_reply(**{"parameters_sha256": sha256_of(as_floats), **changes})
    return admit(reply, parameters, base=BASE, rules=RULES)


def _reason(parameters: np.ndarray, **changes: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        _admit(parameters, **changes)
    assert caught.value.code == "protocol.update_refused"
    assert caught.value.message.startswith(f"{SITE}: ")
    assert SITE in caught.value.remedy
    return caught.value.message


@settings(deadline=None, max_examples=40)
@given(
    step=st.floats(-2.0, 2.0, width=32), num_examples=st.integers(1, RULES.max_examples)
)
def test_a_good_update_is_admitted_as_it_is(step: float, num_examples: int) -> None:
    parameters = BASE + np.float32(step)
    update = _admit(parameters, num_examples=num_examples)
    assert (update.site, update.num_examples) == (SITE, num_examples)
    assert update.parameters.tobytes() == parameters.tobytes()


def test_the_norm_is_that_of_local_minus_global_parameters() -> None:
    parameters = BASE.copy()
    parameters[[3, 7]] += np.array([3.0, -4.0], np.float32)
    assert _admit(parameters).update_norm == pytest.approx(5.0, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(position=POSITIONS, value=NOT_FINITE)
def test_a_value_that_is_not_finite_is_refused(position: int, value: float) -> None:
    parameters = GOOD.copy()
    parameters[position] = value
    assert "not finite" in _reason(parameters)


@pytest.mark.parametrize(
    "shape",
    [(1, NUM_VALUES), (NUM_VALUES, 1), (4, 5), (NUM_VALUES - 1,), (1,), (), (0,)],
)
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    reason = _reason(np.zeros(shape, np.float32))
    assert f"got float32{list(shape)}; expected float32[{NUM_VALUES}]" in reason


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "int32", "bool", "object", ">f4", "int64"]
)
def test_another_type_is_refused(dtype: str) -> None:
    assert f"expected float32[{NUM_VALUES}]" in _reason(
        np.ones(NUM_VALUES).astype(dtype)
    )


@settings(deadline=None, max_examples=40)
@given(position=POSITIONS, bit=st.integers(0, 22))
def test_parameters_that_differ_by_one_bit_from_their_hash_are_refused(
    position: int, bit: int
) -> None:
    parameters = GOOD.copy()
    parameters.view(np.uint32)[position] ^= np.uint32(1 << bit)
    assert "do not match their hash" in _reason(
        parameters, parameters_sha256=sha256_of(GOOD)
    )


def test_parameters_without_a_hash_are_refused() -> None:
    assert "do not match their hash" in _reason(GOOD, parameters_sha256=None)


@settings(deadline=None, max_examples=40)
@given(
    direction=st.integers(0, NUM_VALUES - 1), length=st.floats(11.0, 2.0**100, width=32)
)
def test_an_update_that_is_too_long_is_refused(direction: int, length: float) -> None:
    parameters = BASE.copy()
    parameters[direction] += np.float32(length)
    assert "the update's norm is" in _reason(parameters)


@pytest.mark.parametrize("num_examples", [0, -9, 1001, 10**9])
def test_a_count_outside_the_bounds_is_refused(num_examples: int) -> None:
    reason = _reason(GOOD, num_examples=num_examples)
    assert f"num_examples is {num_examples}; expected 1 to 1000" in reason


def test_a_refusal_does_not_quote_the_values() -> None:
    parameters = GOOD.copy()
    parameters[0] = 4711.0
    assert "4711" not in _reason(parameters)


def test_a_reply_to_this_very_request_is_accepted() -> None:
    check_reply(make_reply(), make_request(), site=SITE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "hospital-b"),
        ("run", "run-2"),
        ("round", 1),
        ("base_sha256", "b" * 64),
    ],
)
def test_a_reply_to_another_request_is_refused(field: str, value: Any) -> None:
    with pytest.raises(
        ProtocolError, match=f"{SITE}: .*{field} is {value!r}"
    ) as caught:
        check_reply(make_reply(**{field: value}), make_request(), site=SITE)
    assert caught.value.code == "protocol.update_refused"
