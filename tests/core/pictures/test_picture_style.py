import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.pictures.style import _spread


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=3),
    st.floats(min_value=0.01, max_value=0.1),
)
@settings(deadline=None, max_examples=30)
def test_labels_keep_their_distance(heights: list[float], gap: float) -> None:
    placed = np.sort(_spread(heights, gap))
    assert np.diff(placed).min() >= gap * 0.9
