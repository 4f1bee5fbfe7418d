import datetime
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.deidentified.allow_list import CT, RTSTRUCT, SEG
from acfnet_core.cohort.deidentified.cleaning_rules import (
    AllowList,
    CappedAge,
    Items,
    Number,
    Rule,
)
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.deidentified.nifti_copy import safe_labels
from acfnet_core.cohort.deidentified.rebuild import file_bytes, rebuild
from acfnet_core.cohort.deidentified.safe_labels import SafeLabels
from acfnet_core.cohort.masks.segmentation import channel_of

NAMES = KeyedNames(b"k" * 32).patient("0042")
IMAGING = shipped_contract("crlm").imaging
assert IMAGING is not None
OPAQUE = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


def _all_rules(allowed: AllowList) -> list[tuple[str, Rule]]:
    rules: list[tuple[str, Rule]] = []
    for keyword, rule in allowed.items():
        if isinstance(rule, Items):
            rules += _all_rules(rule.allowed)
        else:
            rules.append((keyword, rule))
    return rules


RULES = _all_rules(CT) + _all_rules(SEG) + _all_rules(RTSTRUCT)


@given(text=st.text(max_size=40))
@settings(deadline=None, max_examples=50)
def test_no_rule_hands_a_text_on(text: str) -> None:
    for keyword, rule in RULES:
        cleaned = rule.clean([f"#{text}"], dictionary_VR(keyword), NAMES)
        assert "#" not in str(cleaned), keyword


def test_every_allowed_attribute_is_one_of_dicom() -> None:
    assert [k for k, _ in RULES if tag_for_keyword(k) is None] == []


def test_no_allowed_attribute_is_opaque() -> None:
    assert [k for k, _ in RULES if dictionary_VR(k) in OPAQUE] == []


@pytest.mark.parametrize(
    ("age", "written"),
    [("042Y", "042Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("101Y", "090Y")],
)
def test_an_age_above_89_is_capped(age: str, written: str) -> None:
    assert CappedAge().clean([age], "AS", NAMES) == written


@pytest.mark.parametrize("age", ["", "Smith", "42", "1234Y"])
def test_an_age_that_is_none_is_left_out(age: str) -> None:
    assert CappedAge().clean([age], "AS", NAMES) is None


@pytest.mark.parametrize("value", ["Smith", "8675309", "nan", "inf", "-1"])
def test_a_number_out_of_bounds_is_left_out(value: str) -> None:
    assert Number(low=0, high=400).clean([value], "DS", NAMES) is None


@given(value=st.floats(-9999, 9999))
@settings(deadline=None, max_examples=100)
def test_a_decimal_string_keeps_the_number(value: float) -> None:
    written = Number(low=-10_000, high=10_000).clean([repr(value)], "DS", NAMES)
    assert len(written) <= 16
    assert float(written) == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_a_valid_decimal_string_keeps_its_digits() -> None:
    assert Number(low=0, high=9).clean(["0.810547"], "DS", NAMES) == "0.810547"


def test_a_value_that_cannot_be_read_counts_as_none() -> None:
    source = Dataset()
    source.SOPClassUID, source.SOPInstanceUID = CTImageStorage, "1.2"
    content = file_bytes(source, ExplicitVRLittleEndian)
    raw = content + b"\x18\x00\x60\x00DS\x06\x00Smith "
    assert not rebuild(dcmread(io.BytesIO(raw)), CT, NAMES).KVP


def test_an_item_of_a_sequence_keeps_what_its_own_list_allows() -> None:
    item = Dataset()
    item.ImagePositionPatient = [1, 2, 3]
    item.PatientName = "Smith"
    source = Dataset()
    source.PlanePositionSequence = [item]
    frame = Dataset()
    frame.PerFrameFunctionalGroupsSequence = [source]
    (rebuilt,) = rebuild(frame, CT, NAMES).PerFrameFunctionalGroupsSequence
    assert rebuilt.PlanePositionSequence[0].dir() == ["ImagePositionPatient"]


def test_a_day_of_another_attribute_is_not_copied() -> None:
    source = Dataset()
    source.StudyDate = "19920606"
    for keyword in ("SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(source, keyword, "20240101")
    copy = rebuild(source, CT, NAMES)
    days = [element.value for element in copy if element.VR == "DA" and element.value]
    assert days == [f"{NAMES.shift(datetime.date(1992, 6, 6)):%Y%m%d}"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("liver", "Liver"),
        ("Tumor_Smith", "Tumor 1"),
        ("TUMOUR 8675309", "Tumour 1"),
        ("hepatic vein of Smith", "Hepatic Vein 1"),
        ("Smith", None),
        ("Liver Smith", None),
    ],
)
def test_a_label_is_written_in_the_contracts_words(
    label: str, name: str | None
) -> None:
    assert IMAGING is not None
    assert SafeLabels(IMAGING).name_for(label) == name


def test_labels_of_one_pattern_are_numbered() -> None:
    assert IMAGING is not None
    labels = SafeLabels(IMAGING)
    named = [labels.name_for(f"Tumor_{word}") for word in ("A", "B", "C")]
    assert named == ["Tumor 1", "Tumor 2", "Tumor 3"]


def test_a_neutral_name_belongs_to_no_channel() -> None:
    assert IMAGING is not None
    imaging = IMAGING.model_copy(
        update={"segments": {"liver": ("Liver",), "tumour": ("Other*", "o*")}}
    )
    name = SafeLabels(imaging).neutral_name()
    assert channel_of(name, imaging) is None


def test_a_contract_may_take_every_name() -> None:
    assert IMAGING is not None
    imaging = IMAGING.model_copy(update={"segments": {"liver": ("*",)}})
    assert SafeLabels(imaging).name_for("Smith") == "liver 1"
    with pytest.raises(ValueError, match="no neutral name"):
        SafeLabels(imaging).neutral_name()


def test_a_number_that_another_channel_has_is_passed_over() -> None:
    assert IMAGING is not None
    segments = {"liver": ("Liver",), "vessel": ("Tumor 1",), "tumour": ("Tumor*",)}
    imaging = IMAGING.model_copy(update={"segments": segments})
    assert SafeLabels(imaging).name_for("Tumor Smith") == "Tumor 2"


def test_values_of_masks_are_named_in_the_contracts_words() -> None:
    assert IMAGING is not None
    labels = {5: ("liver", "Tumor Smith"), 6: ("Smith",)}
    assert safe_labels(labels, IMAGING) == {5: ("Liver", "Tumor 1")}
