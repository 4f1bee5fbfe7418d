from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from references.ct_series import make_series, write_series

from acfnet_core.cohort.check_warnings import warn_of_linkage
from acfnet_core.cohort.header_linkage import Agreement, compare_headers
from acfnet_core.cohort.images.dicom_index import InstanceHeader, index_folder
from acfnet_core.cohort.table.clinical_table import TableRow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> InstanceHeader:
    folder = tmp_path_factory.mktemp("ct")
    slices = make_series("P-0", num_slices=2)
    for one in slices:
        one.PatientSex, one.PatientAge = "F", "065Y"
    write_series(slices, folder)
    return index_folder(folder).ct_series[0][0]


def _header(
    template: InstanceHeader, patient: int, *, sex: str = "F", age: str = "065Y"
) -> tuple[InstanceHeader, ...]:
    patient_id = f"P-{patient}"
    return (replace(template, patient_id=patient_id, patient_sex=sex, patient_age=age),)


def _row(
    patient: int, *, sex: Literal["M", "F"] | None = "F", age: float | None = 65.0
) -> TableRow:
    return TableRow(
        row_number=patient + 2,
        patient_id=f"P-{patient}",
        clinical=np.zeros(0, np.float32),
        clinical_mask=np.zeros(0, np.bool_),
        resection_date=None,
        stated_sex=sex,
        stated_age_years=age,
    )


def _counts(
    rows: Sequence[TableRow], series: Sequence[tuple[InstanceHeader, ...]]
) -> dict[str, tuple[int, int]]:
    found = compare_headers(rows, series)
    return {name: (one.num_compared, one.num_agreeing) for name, one in found.items()}


def test_the_index_reads_sex_and_age_and_keeps_them_out_of_its_repr(
    template: InstanceHeader,
) -> None:
    assert (template.patient_sex, template.patient_age) == ("F", "065Y")
    assert "065Y" not in repr(template)


@pytest.mark.parametrize(
    ("age", "agrees"),
    [("065Y", 1), ("063Y", 1), ("067Y", 1), ("062Y", 0), ("780M", 1), ("700M", 0)],
)
def test_an_age_within_two_years_agrees(
    template: InstanceHeader, age: str, agrees: int
) -> None:
    counts = _counts([_row(0)], [_header(template, 0, age=age)])
    assert counts["age"] == (1, agrees)


@pytest.mark.parametrize(
    ("sex", "counts"), [("F", (1, 1)), ("M", (1, 0)), ("O", (0, 0))]
)
def test_only_m_and_f_are_compared(
    template: InstanceHeader, sex: str, counts: tuple[int, int]
) -> None:
    assert _counts([_row(0)], [_header(template, 0, sex=sex)])["sex"] == counts


@pytest.mark.parametrize("age", ["", "65", "6Y", "65 Y"])
def test_an_age_that_cannot_be_read_is_not_compared(
    template: InstanceHeader, age: str
) -> None:
    counts = _counts([_row(0)], [_header(template, 0, age=age)])
    assert counts["age"] == (0, 0)


def test_what_the_table_does_not_say_is_not_compared(template: InstanceHeader) -> None:
    rows = [_row(0, sex=None, age=None)]
    assert set(_counts(rows, [_header(template, 0)]).values()) == {(0, 0)}


def test_patients_without_images_are_not_compared(template: InstanceHeader) -> None:
    counts = _counts([_row(0), _row(1)], [_header(template, 0)])
    assert counts == {"sex": (1, 1), "age": (1, 1)}


def test_a_patient_with_headers_of_both_sexes_disagrees(
    template: InstanceHeader,
) -> None:
    series = [_header(template, 0), _header(template, 0, sex="M")]
    assert _counts([_row(0)], series)["sex"] == (1, 0)


@pytest.mark.parametrize(
    ("num_compared", "num_agreeing", "is_doubtful"),
    [(10, 9, False), (10, 8, True), (9, 0, False), (100, 90, False), (100, 89, True)],
)
def test_below_ninety_percent_of_ten_the_linkage_is_doubtful(
    num_compared: int, num_agreeing: int, is_doubtful: bool
) -> None:
    one = Agreement(num_compared=num_compared, num_agreeing=num_agreeing)
    assert one.is_doubtful is is_doubtful


def test_a_doubtful_linkage_is_warned_of_with_counts_alone() -> None:
    found = {
        "sex": Agreement(num_compared=197, num_agreeing=102),
        "age": Agreement(num_compared=197, num_agreeing=190),
    }
    (warning,) = warn_of_linkage(found)
    assert warning.code == "HEADERS_DISAGREE"
    assert "sex agrees for 102 of 197 patients" in warning.text
    assert "linkage may be wrong" in warning.text


def test_an_empty_folder_compares_nobody(tmp_path: Path) -> None:
    assert _counts([_row(0)], index_folder(tmp_path).ct_series)["sex"] == (0, 0)
