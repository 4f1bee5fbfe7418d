import pytest

from acfnet_core.canonical import canonical_json


def test_order_of_keys_makes_no_difference() -> None:
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})


def test_text_outside_ascii_is_escaped() -> None:
    assert canonical_json({"a": "é"}) == b'{"a":"\\u00e9"}'


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
