import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from acfnet_core.federation import blocks
from acfnet_core.federation.blocks import (
    blocks_of,
    norm_of,
    norm_of_difference,
    stack_block,
)

VECTOR = arrays(np.float32, 40, elements=st.floats(-1e6, 1e6, width=32))


@settings(deadline=None, max_examples=60)
@given(num_values=st.integers(0, 500), size=st.integers(1, 100), rows=st.integers(1, 9))
def test_blocks_cover_every_coordinate_once(
    num_values: int, size: int, rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_VALUES", size)
        cut = list(blocks_of(num_values, num_vectors=rows))
    covered = [place for block in cut for place in range(block.start, block.stop)]
    assert covered == list(range(num_values))


@pytest.mark.parametrize("num_vectors", [1, 3, 64, 1000])
def test_a_block_of_all_vectors_has_at_most_so_many_values(num_vectors: int) -> None:
    longest = max(b.stop - b.start for b in blocks_of(10**6, num_vectors=num_vectors))
    assert longest * num_vectors <= blocks.BLOCK_VALUES


@settings(deadline=None, max_examples=40)
@given(one=VECTOR, other=VECTOR)
def test_norms_in_blocks_equal_the_norms(one: np.ndarray, other: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_VALUES", 7)
        difference, norm = norm_of_difference(one, other), norm_of(one)
    wide = one.astype(np.float64)
    assert norm == pytest.approx(np.linalg.norm(wide), rel=1e-12)
    assert difference == pytest.approx(np.linalg.norm(wide - other), rel=1e-12)


def test_a_stacked_block_has_a_row_for_each_vector() -> None:
    two = [np.arange(5, dtype=np.float32), np.ones(5, np.float32)]
    rows = stack_block(two, slice(1, 3))
    assert rows.dtype == np.float64
    assert rows.tolist() == [[1.0, 2.0], [1.0, 1.0]]


def test_a_vector_of_nothing_has_a_norm_of_nothing() -> None:
    assert norm_of(np.zeros(0, np.float32)) == 0.0
