import pytest

from acfnet_core.cohort.images.refusal_remedies import WHAT_TO_DO
from acfnet_core.cohort.images.refusals import REASONS


def test_every_code_has_a_remedy_and_no_other_has() -> None:
    assert WHAT_TO_DO.keys() == REASONS.keys()


@pytest.mark.parametrize("code", sorted(WHAT_TO_DO))
def test_a_remedy_is_whole_sentences(code: str) -> None:
    text = WHAT_TO_DO[code]
    assert text[0].isupper()
    assert text.endswith(".")
    assert "  " not in text


@pytest.mark.parametrize("code", sorted(WHAT_TO_DO))
def test_a_remedy_says_more_than_the_meaning(code: str) -> None:
    assert WHAT_TO_DO[code].casefold() != f"{REASONS[code]}.".casefold()
