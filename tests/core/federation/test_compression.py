from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from references.slow_compression import slow_float16, slow_top_k

from acfnet_core.federation.compression import (
    CompressedUpdate,
    UpdateSettings,
    compress_update,
    decode,
    encode,
    received_parameters,
)

HALVES = UpdateSettings(compression="float16")
LARGEST = UpdateSettings(compression="top_k", top_k_share=0.3)
BOTH = pytest.mark.parametrize("kind", [HALVES, LARGEST], ids=lambda k: k.compression)

LONGEST = float(np.finfo(np.float32).max)
Vectors = st.SearchStrategy[np.ndarray]


def vectors(limit: float, *, least: int = 1) -> Vectors:
    """Vectors with zeros, equal magnitudes and subnormal values among them."""
    one = st.floats(-limit, limit, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0])
    return arrays(np.float32, st.integers(least, 40), elements=one)


def share(value: float) -> UpdateSettings:
    return UpdateSettings(compression="top_k", top_k_share=value)


@settings(deadline=None, max_examples=100)
@given(difference=vectors(2.0**100))
def test_float16_is_what_the_slow_reference_writes(difference: np.ndarray) -> None:
    expected = slow_float16([float(value) for value in difference])
    assert encode(difference, HALVES).tobytes() == expected


@settings(deadline=None, max_examples=100)
@given(difference=vectors(2.0**100))
def test_top_k_is_what_the_slow_reference_writes(difference: np.ndarray) -> None:
    num_kept = LARGEST.num_kept(difference.size)
    expected = slow_top_k([float(value) for value in difference], num_kept)
    assert encode(difference, LARGEST).tobytes() == expected


@settings(deadline=None, max_examples=100)
@given(difference=vectors(2.0**127))
def test_float16_keeps_its_rounding_bound(difference: np.ndarray) -> None:
    decoded = decode(encode(difference, HALVES), HALVES, num_values=difference.size)
    exact = difference.astype(np.float64)
    # The last term is a float32's own rounding, of values below 1e-38.
    bound = 2.0**-11 * np.abs(exact) + 2.0**-39 * np.abs(exact).max() + 2.0**-150
    assert (np.abs(decoded.astype(np.float64) - exact) <= bound).all()


def test_float16_holds_what_is_a_thousand_million_times_smaller() -> None:
    difference = np.array([3e4, 3e-5], np.float32)
    decoded = decode(encode(difference, HALVES), HALVES, num_values=2)
    np.testing.assert_allclose(decoded, difference, rtol=1e-3)


@settings(deadline=None, max_examples=100)
@given(difference=vectors(LONGEST))
def test_top_k_gives_the_largest_values_back_as_they_are(
    difference: np.ndarray,
) -> None:
    decoded = decode(encode(difference, LARGEST), LARGEST, num_values=difference.size)
    left = np.abs(difference[decoded != difference])
    kept = np.abs(decoded[decoded == difference])
    assert np.count_nonzero(decoded) <= LARGEST.num_kept(difference.size)
    assert left.size == 0 or left.max() <= kept.max()
    assert set(np.unique(decoded[decoded != difference])) <= {0.0}


@BOTH
def test_an_update_of_zeros_stays_one(kind: UpdateSettings) -> None:
    decoded = decode(encode(np.zeros(9, np.float32), kind), kind, num_values=9)
    assert decoded.tolist() == [0.0] * 9


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (HALVES, "f3ffffff 0000 0070 00f6 006c"),
        (share(0.49), "01000000 02000000 0000803f 000040c0"),
    ],
)
def test_the_bytes_are_these(kind: UpdateSettings, expected: str) -> None:
    difference = np.array([0.0, 1.0, -3.0, 0.5], np.float32)
    assert encode(difference, kind).tobytes() == bytes.fromhex(expected)


@BOTH
@pytest.mark.parametrize("num_values", [1, 2, 7, 1000])
def test_the_length_is_known_beforehand(kind: UpdateSettings, num_values: int) -> None:
    difference = np.arange(num_values, dtype=np.float32)
    assert encode(difference, kind).size == kind.num_bytes(num_values)


def test_of_equal_magnitudes_the_first_are_sent() -> None:
    difference = np.array([1.0, -2.0, 2.0, -2.0, 2.0, 1.0, 0, 0, 0, 0], np.float32)
    decoded = decode(encode(difference, LARGEST), LARGEST, num_values=10)
    assert np.flatnonzero(decoded).tolist() == [1, 2, 3]


def test_what_top_k_leaves_out_changes_no_bit() -> None:
    base = np.array([-0.0, 0.0, 1e-42, -1.0, 2.0], np.float32)
    difference = np.array([0, 0, 0, 0, 1], np.float32)
    parameters = received_parameters(encode(difference, share(0.2)), base, share(0.2))
    assert parameters[:4].tobytes() == base[:4].tobytes()
    assert parameters[4] == 3.0


def compress(base: np.ndarray, kind: UpdateSettings, *steps: np.ndarray) -> Any:
    """Take rounds, each from what the round before made; return first and last."""
    residual, at, updates = None, base, []
    for step in steps:
        update = compress_update(at, at + step, residual, kind)
        updates.append(update)
        at, residual = update.parameters, update.residual
    return updates


@BOTH
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), num_rounds=st.integers(1, 12))
def test_over_the_rounds_only_the_last_residual_is_missing(
    kind: UpdateSettings, seed: int, num_rounds: int
) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=50).astype(np.float32)
    at, residual = base, None
    wanted = np.zeros(50)
    for _ in range(num_rounds):
        trained = at + rng.normal(0, 0.1, size=50).astype(np.float32)
        wanted += trained.astype(np.float64) - at
        update = compress_update(at, trained, residual, kind)
        at, residual = update.parameters, update.residual
    assert residual is not None
    np.testing.assert_allclose(
        at.astype(np.float64) - base, wanted - residual, atol=num_rounds * 1e-7
    )


def test_what_is_never_among_the_largest_is_sent_in_the_end() -> None:
    step = np.array([1.0, 0.01], np.float32)
    updates = compress(np.zeros(2, np.float32), share(0.4), *[step] * 150)
    assert updates[0].parameters[1] == 0.0
    assert updates[-1].parameters[1] == pytest.approx(1.0, abs=0.51)


@BOTH
def test_the_site_knows_what_the_server_will_have(kind: UpdateSettings) -> None:
    rng = np.random.default_rng(3)
    base, trained, kept = rng.normal(size=(3, 200)).astype(np.float32)
    update = compress_update(base, trained, kept, kind)
    there = received_parameters(update.encoded, base, kind)
    assert there.tobytes() == update.parameters.tobytes()


@BOTH
def test_equal_updates_give_equal_bytes(kind: UpdateSettings) -> None:
    def once() -> CompressedUpdate:
        rng = np.random.default_rng(3)
        base, trained, kept = rng.normal(size=(3, 200)).astype(np.float32)
        return compress_update(base, trained, kept, kind)

    one, other = once(), once()
    assert one.encoded.tobytes() == other.encoded.tobytes()
    assert one.residual.tobytes() == other.residual.tobytes()


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_encoded(kind: UpdateSettings, value: float) -> None:
    trained = np.array([1.0, value, 2.0], np.float32)
    with pytest.raises(ValueError, match="not finite"):
        compress_update(np.zeros(3, np.float32), trained, None, kind)


@BOTH
def test_a_difference_that_overflows_is_not_encoded(kind: UpdateSettings) -> None:
    far = np.full(3, 3e38, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        compress_update(-far, far, None, kind)


@BOTH
def test_parameters_that_would_overflow_are_not_sent(kind: UpdateSettings) -> None:
    base = np.full(3, 3e38, np.float32)
    kept = np.full(3, 1e38, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        compress_update(base, base, kept, kind)


def spoilt(kind: UpdateSettings, **parts: Any) -> np.ndarray:
    """Return the encoding of ten values with one part of it changed."""
    encoded = encode(np.arange(1, 11, dtype=np.float32), kind).copy()
    for part, (at, value) in parts.items():
        if part == "exponent":
            encoded[:4].view("<i4")[at] = value
        elif part == "half":
            encoded[4:].view("<f2")[at] = value
        elif part == "place":
            encoded[: encoded.size // 2].view("<u4")[at] = value
        else:
            encoded[encoded.size // 2 :].view("<f4")[at] = value
    return encoded


FAULTS: list[tuple[UpdateSettings, dict[str, Any], str]] = [
    (HALVES, {"half": (3, np.nan)}, "not finite"),
    (HALVES, {"half": (9, np.inf)}, "not finite"),
    (HALVES, {"exponent": (0, 114)}, "exponent"),
    (HALVES, {"exponent": (0, -164)}, "exponent"),
    (LARGEST, {"place": (2, 10)}, "from 0 to below 10"),
    (LARGEST, {"place": (2, 2**32 - 1)}, "from 0 to below 10"),
    (LARGEST, {"place": (1, 7)}, "do not increase"),
    (LARGEST, {"place": (0, 9)}, "do not increase"),
    (LARGEST, {"value": (0, np.nan)}, "not finite"),
    (LARGEST, {"value": (2, -np.inf)}, "not finite"),
]


@pytest.mark.parametrize(("kind", "parts", "reason"), FAULTS)
def test_a_spoilt_encoding_is_refused_with_the_reason(
    kind: UpdateSettings, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(spoilt(kind, **parts), kind, num_values=10)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda encoded: encoded[:-1],
        lambda encoded: encoded[:0],
        lambda encoded: np.append(encoded, encoded[:1]),
        lambda encoded: encoded[None],
        lambda encoded: encoded.astype(np.int8),
        lambda encoded: encoded.astype(np.float32),
    ],
)
def test_another_form_is_refused_with_what_was_expected(
    kind: UpdateSettings, change: Any
) -> None:
    with pytest.raises(ValueError, match=rf"expected {kind.compression} in uint8\[24"):
        decode(change(spoilt(kind)), kind, num_values=10)


@BOTH
@settings(deadline=None, max_examples=200)
@given(content=st.binary(min_size=24, max_size=24))
def test_any_bytes_decode_to_the_right_length_or_are_refused(
    kind: UpdateSettings, content: bytes
) -> None:
    try:
        decoded = decode(np.frombuffer(content, np.uint8), kind, num_values=10)
    except ValueError:
        return
    assert decoded.dtype == np.float32
    assert decoded.shape == (10,)


def test_a_sum_that_overflows_is_left_to_admission() -> None:
    base = np.full(4, 3e38, np.float32)
    encoded = encode(np.array([3e38, 0, 0, 0], np.float32), share(0.25))
    assert np.isinf(received_parameters(encoded, base, share(0.25))[0])


def test_without_compression_nothing_is_encoded_or_decoded() -> None:
    plain = UpdateSettings()
    with pytest.raises(ValueError, match="sent as it is"):
        encode(np.ones(2, np.float32), plain)
    with pytest.raises(ValueError, match="sent as it is"):
        decode(np.zeros(8, np.uint8), plain, num_values=2)


def test_top_k_is_stored_with_its_share() -> None:
    assert UpdateSettings(compression="top_k").top_k_share == 0.05


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"compression": "gzip"}, "compression"),
        ({"compression": "top_k", "top_k_share": 0.0}, "greater than 0"),
        ({"compression": "top_k", "top_k_share": 0.5}, "less than 0.5"),
        ({"top_k_share": 0.1}, "belongs to compression top_k, not to none"),
        (
            {"compression": "float16", "top_k_share": 0.1},
            "belongs to compression top_k, not to float16",
        ),
        ({"compression": "top_k", "share": 0.1}, "share"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    content: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        UpdateSettings.model_validate(content)


def test_at_least_one_value_is_sent() -> None:
    assert share(0.01).num_kept(3) == 1
