import hashlib
import inspect
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from acfnet_core.federation.parameters import (
    ParameterLayout,
    flatten,
    layout_of,
    parts_of,
    sha256_of,
    sha256_of_arrays,
    unflatten,
)

NAMED = st.dictionaries(
    st.text(min_size=1, max_size=6),
    arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    max_size=4,
)


@pytest.fixture
def named() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "b.weight": rng.normal(size=(2, 3)).astype(np.float32),
        "a.bias": rng.normal(size=4).astype(np.float32),
    }


@settings(deadline=None, max_examples=40)
@given(named=NAMED)
def test_flattening_and_back_keeps_every_bit(named: dict[str, np.ndarray]) -> None:
    restored = unflatten(flatten(named), layout_of(named))
    assert sorted(restored) == sorted(named)
    for name, array in named.items():
        assert restored[name].shape == array.shape
        assert restored[name].tobytes() == array.tobytes()


def test_the_flat_vector_is_in_the_order_of_the_names(
    named: dict[str, np.ndarray],
) -> None:
    expected = [*named["a.bias"], *named["b.weight"][0], *named["b.weight"][1]]
    assert flatten(named).tolist() == expected


def test_the_order_of_insertion_does_not_matter(named: dict[str, np.ndarray]) -> None:
    turned = dict(reversed(named.items()))
    assert layout_of(turned).sha256() == layout_of(named).sha256()
    assert np.array_equal(flatten(turned), flatten(named))


@pytest.mark.parametrize(
    "other",
    [
        ParameterLayout(("a", "c"), ((2,), (3, 4))),
        ParameterLayout(("a", "b"), ((2,), (4, 3))),
        ParameterLayout(("a", "b"), ((2,), (12,))),
        ParameterLayout(("a",), ((14,),)),
    ],
)
def test_another_name_or_shape_gives_another_layout_hash(
    other: ParameterLayout,
) -> None:
    layout = ParameterLayout(("a", "b"), ((2,), (3, 4)))
    assert other.num_values == layout.num_values
    assert other.sha256() != layout.sha256()


def test_the_layout_hash_does_not_depend_on_the_values(
    named: dict[str, np.ndarray],
) -> None:
    others = {name: array + 1 for name, array in named.items()}
    assert layout_of(others).sha256() == layout_of(named).sha256()


def test_the_hash_is_that_of_little_endian_floats() -> None:
    values = np.array([1.5, -0.0, 3e-42], dtype=np.float32)
    packed = struct.pack("<3f", *values.tolist())
    assert sha256_of(values) == hashlib.sha256(packed).hexdigest()


def test_the_hash_tells_the_two_zeros_apart() -> None:
    zero = np.zeros(1, np.float32)
    assert sha256_of(zero) != sha256_of(-zero)


def test_restored_arrays_do_not_share_memory_with_the_vector(
    named: dict[str, np.ndarray],
) -> None:
    flat = flatten(named)
    unflatten(flat, layout_of(named))["a.bias"][:] = 9.0
    assert np.array_equal(flat, flatten(named))


def test_a_vector_of_another_length_is_refused(named: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="9 values; the layout has 10"):
        unflatten(flatten(named)[:-1], layout_of(named))


def test_an_array_of_another_type_is_refused(named: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"b\.weight is float64; expected float32"):
        # Unwrapped: in tests the type checker would refuse it before the function does.
        inspect.unwrap(layout_of)(
            {**named, "b.weight": named["b.weight"].astype(np.float64)}
        )


@settings(deadline=None, max_examples=40)
@given(named=NAMED)
def test_the_hash_of_named_arrays_is_that_of_their_vector(
    named: dict[str, np.ndarray],
) -> None:
    assert sha256_of_arrays(named) == sha256_of(flatten(named))


def test_the_hash_does_not_depend_on_how_the_values_lie_in_memory() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert sha256_of_arrays({"a": np.asfortranarray(values)}) == sha256_of(
        values.reshape(-1)
    )


@settings(deadline=None, max_examples=40)
@given(named=NAMED)
def test_parts_are_the_restored_arrays_and_share_the_vectors_memory(
    named: dict[str, np.ndarray],
) -> None:
    flat, layout = flatten(named), layout_of(named)
    parts, restored = parts_of(flat, layout), unflatten(flat, layout)
    assert list(parts) == list(restored)
    for name, part in parts.items():
        assert np.array_equal(part, restored[name], equal_nan=True)
        assert part.size == 0 or np.shares_memory(part, flat)
