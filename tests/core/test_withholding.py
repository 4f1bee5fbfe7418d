import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.withholding import withhold, withhold_part


@pytest.mark.parametrize(
    ("count", "told"), [(0, 0), (1, None), (9, None), (10, 10), (11, 11)]
)
def test_a_count_of_few_people_is_withheld(count: int, told: int | None) -> None:
    assert withhold(count, minimum=10) == told


@pytest.mark.parametrize("count", [1, 9, 31, 39])
def test_a_part_is_withheld_if_it_or_the_rest_is_small(count: int) -> None:
    assert withhold_part(count, of=40, minimum=10) is None


@pytest.mark.parametrize("count", [0, 10, 30, 40])
def test_a_part_is_told_if_neither_it_nor_the_rest_is_small(count: int) -> None:
    assert withhold_part(count, of=40, minimum=10) == count


@settings(deadline=None, max_examples=50)
@given(of=st.integers(0, 60), minimum=st.integers(1, 12), share=st.floats(0.0, 1.0))
def test_a_part_and_its_rest_are_told_or_withheld_together(
    of: int, minimum: int, share: float
) -> None:
    count = int(of * share)
    told = withhold_part(count, of=of, minimum=minimum)
    rest = withhold_part(of - count, of=of, minimum=minimum)
    assert (told is None) == (rest is None)
