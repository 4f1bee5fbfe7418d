"""What a made-up hospital's data must be found to hold: the truth about its faults."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from acfnet_core.cohort.check import CheckReport, ImageCheck, TableCheck
from acfnet_core.cohort.synthetic.defect_kinds import Finder

ANSWER_KEY_NAME = "answer-key.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageAnswer(_Part):
    """One defect of one study.

    Attributes:
        kind: A key of `defects.DEFECTS`.
        meaning: What was done.
        row: The patient's row in the table, as a spreadsheet counts.
        study: The patient's study with the defect, the earliest is 1.
        found_by: `data check` reads headers and dates, `data prepare` all.
        series_codes: What the gate finds in the CT series.
        study_codes: Why the study gives no scan; empty where it still does.
    """

    kind: str
    meaning: str
    row: int
    study: int
    found_by: Finder
    series_codes: tuple[str, ...]
    study_codes: tuple[str, ...]


class TableAnswer(_Part):
    """One faulty row of the table.

    Attributes:
        column: The contract's name.
        row: As a spreadsheet counts.
    """

    kind: str
    meaning: str
    rule: str
    column: str
    row: int


class ConflictAnswer(_Part):
    """One row whose columns contradict one another; each cell alone is in order.

    Attributes:
        kind: A key of `row_conflicts.ROW_CONFLICTS`.
        rules: The contract's rules between columns that must name the row, and no
            other rule may.
        row: As a spreadsheet counts.
    """

    kind: str
    meaning: str
    rules: tuple[str, ...]
    row: int


class LinkageAnswer(_Part):
    """How far the headers' sex, or age, is that of the table.

    Attributes:
        num_compared: Patients of whom both say something.
        is_warned_of: Whether `data check` must warn of HEADERS_DISAGREE.
    """

    num_compared: int
    num_agreeing: int
    is_warned_of: bool


class AnswerKey(_Part):
    """All that is wrong with a made-up hospital's data, and how much there is of it.

    Attributes:
        has_other_demographics: The headers' sex and age are those of other people.
        num_patients: Rows of the table.
        num_patients_without_images: Rows whose patient has no CT.
        num_patients_not_in_table: Patients of CT files who are not in the table.
        num_series: CT series.
        num_series_multi_frame: Of these, enhanced multi-frame ones, the broken ones
            too.
        num_scans: Scans that headers and dates allow to use.
        num_files_ignored: Files that are no DICOM.
        num_files_broken: DICOM files that cannot be read.
        linkage: `sex` and `age` in the headers, compared with the table.
        table_defects: Faults, which keep the table from being prepared.
        table_conflicts: What is warned of, and does not.
    """

    format_version: Literal[2] = 2
    site: str
    seed: int
    table: str
    masks: str
    coding: str
    has_other_demographics: bool
    num_patients: int
    num_patients_without_images: int
    num_patients_not_in_table: int
    num_series: int
    num_series_multi_frame: int
    num_scans: int
    num_files_ignored: int
    num_files_broken: int
    linkage: dict[str, LinkageAnswer]
    image_defects: tuple[ImageAnswer, ...]
    table_defects: tuple[TableAnswer, ...]
    table_conflicts: tuple[ConflictAnswer, ...]

    @property
    def series_codes(self) -> dict[str, int]:
        """Code -> CT series that have it."""
        return _count(code for one in self.image_defects for code in one.series_codes)

    def study_codes(self, found_by: Iterable[Finder]) -> dict[str, int]:
        """Return code -> studies that give no scan for it, by who finds it."""
        finders = tuple(found_by)
        return _count(
            code
            for one in self.image_defects
            if one.found_by in finders
            for code in one.study_codes
        )


def differences_from_check(key: AnswerKey, report: CheckReport) -> tuple[str, ...]:
    """Return in which points `data check` found other than the key has; none is right.

    Raises:
        ValueError: The check was made without images.
    """
    if report.images is None:
        raise ValueError("the check was made without images")
    expected = {**_expected_of_images(key), **_expected_of_table(key)}
    found = {**_found_in_images(report.images), **_found_in_table(report.table)}
    return tuple(_differences(expected, found))


def _expected_of_images(key: AnswerKey) -> dict[str, object]:
    return {
        "series": key.num_series,
        "series codes": key.series_codes,
        "study codes": key.study_codes(["check"]),
        "scans": key.num_scans,
        "patients not in the table": key.num_patients_not_in_table,
        "files ignored": key.num_files_ignored,
        "files broken": key.num_files_broken,
        "headers and table": {
            name: (one.num_compared, one.num_agreeing)
            for name, one in key.linkage.items()
        },
        "warnings of headers": sum(one.is_warned_of for one in key.linkage.values()),
    }


def _found_in_images(images: ImageCheck) -> dict[str, object]:
    return {
        "series": images.num_series,
        "series codes": images.series_codes,
        "study codes": images.study_codes,
        "scans": images.num_scans,
        "patients not in the table": images.num_patients_not_in_table,
        "files ignored": images.num_files_ignored,
        "files broken": images.num_files_broken,
        "headers and table": {
            name: (one.num_compared, one.num_agreeing)
            for name, one in images.linkage.items()
        },
        "warnings of headers": sum(
            one.code == "HEADERS_DISAGREE" for one in images.warnings
        ),
    }


def _expected_of_table(key: AnswerKey) -> dict[str, object]:
    rows_of: dict[str, list[int]] = defaultdict(list)
    for one in key.table_conflicts:
        for rule in one.rules:
            rows_of[rule].append(one.row)
    return {
        "rows": key.num_patients,
        "table faults": sorted(
            (one.rule, one.column, 1, (one.row,)) for one in key.table_defects
        ),
        "table conflicts": sorted(
            (rule, len(rows), tuple(sorted(rows))) for rule, rows in rows_of.items()
        ),
    }


def _found_in_table(table: TableCheck) -> dict[str, object]:
    return {
        "rows": table.num_rows,
        "table faults": sorted(
            (one.rule, one.column, one.count, one.first_rows) for one in table.faults
        ),
        "table conflicts": sorted(
            (one.rule, one.count, one.first_rows) for one in table.warnings
        ),
    }


def _differences(
    expected: dict[str, object], found: dict[str, object]
) -> Iterator[str]:
    for name, value in expected.items():
        if value != found[name]:
            yield f"{name}: found {found[name]}, expected {value}"


def _count(codes: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(codes).items()))
