import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.prepared.preparation import make_pseudonym

KEY = b"k" * 32
NAMES = KeyedNames(KEY)
ANY_TEXT = st.text(max_size=80)


@given(text=ANY_TEXT)
@settings(deadline=None, max_examples=50)
def test_a_keyed_uid_is_a_valid_one(text: str) -> None:
    assert UID(NAMES.uid(text)).is_valid


@given(text=ANY_TEXT)
@settings(deadline=None, max_examples=50)
def test_a_pseudonym_is_not_the_stores(text: str) -> None:
    assert NAMES.patient(text).pseudonym != make_pseudonym(KEY, text)


@given(text=ANY_TEXT)
@settings(deadline=None, max_examples=50)
def test_every_day_is_moved_to_the_past_by_ten_years_at_most(text: str) -> None:
    assert 1 <= NAMES.patient(text).shift_days <= 3652


@given(
    first=st.dates(datetime.date(1950, 1, 1), datetime.date(2100, 1, 1)),
    second=st.dates(datetime.date(1950, 1, 1), datetime.date(2100, 1, 1)),
)
@settings(deadline=None, max_examples=50)
def test_intervals_are_kept(first: datetime.date, second: datetime.date) -> None:
    patient = NAMES.patient("0042")
    moved = patient.shift(first), patient.shift(second)
    assert moved[0] is not None
    assert moved[1] is not None
    assert moved[1] - moved[0] == second - first


def test_patients_are_moved_by_different_numbers_of_days() -> None:
    shifts = {NAMES.patient(f"{number:04}").shift_days for number in range(50)}
    assert len(shifts) > 45


def test_padding_of_a_uid_does_not_matter() -> None:
    assert NAMES.uid("1.2.3\0") == NAMES.uid("1.2.3") == NAMES.uid(" 1.2.3 ")


def test_names_depend_on_the_key() -> None:
    other = KeyedNames(b"o" * 32)
    assert other.uid("1.2.3") != NAMES.uid("1.2.3")
    assert other.patient("1").pseudonym != NAMES.patient("1").pseudonym
    assert other.patient("1").shift_days != NAMES.patient("1").shift_days


@pytest.mark.parametrize("text", ["", "1992", "19921301", "06.06.1992", "Smith"])
def test_what_is_no_day_is_written_empty(text: str) -> None:
    assert NAMES.patient("1").shift_dicom(text) == ""


def test_a_day_before_the_calendar_is_written_empty() -> None:
    assert NAMES.patient("1").shift_dicom("00010101") == ""


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        KeyedNames(b"short")


def test_the_shift_stays_out_of_the_repr() -> None:
    patient = NAMES.patient("1")
    assert str(patient.shift_days) not in repr(patient)
