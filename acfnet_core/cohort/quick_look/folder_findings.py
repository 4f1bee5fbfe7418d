"""What a look at a folder finds, as values; their names are those of `--json`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from acfnet_core.cohort.images.refusals import GATE_CODES

Verdict = Literal["accepted", "repairable", "refused"]
SegmentationFormat = Literal["DICOM SEG", "RTSTRUCT", "NIfTI"]

REPAIRS = {
    "EMPTY_UID": "UIDs are made up from the files' places",
    "GANTRY_TILT": "the slices are read where they lie",
    "MISSING_SLICES": "single lost slices are the mean of their neighbours",
    "NO_PATIENT_ID": "the topmost folder names the patient",
}
"""Code of a fault that can be mended -> how."""


@dataclass(frozen=True, kw_only=True)
class SeriesFinding:
    """One CT series.

    Attributes:
        series: A label of this list alone, `CT-1`.
        patient: Likewise, `P-1`; None if the series has no patient or several.
        folder: Where its first file lies, relative to the folder that was looked at.
        files: Files, copies among them.
        shape: Slices, rows, columns; None where slices differ in size.
        spacing_mm: Along the same axes; None where there is not one. Of a series with
            missing slices, that of the others.
        transfer_syntax: Names, more than one where files differ.
        segmentations: DICOM SEG and RTSTRUCT files that name this series.
        codes: The gate's; see `refusals.GATE_CODES`.
        repaired: Codes of what was mended, where a repair was asked for.
    """

    series: str
    patient: str | None
    folder: str
    modality: str
    files: int
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    transfer_syntax: tuple[str, ...]
    segmentations: int
    verdict: Verdict
    codes: tuple[str, ...]
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SegmentationFinding:
    """One file with segments.

    Attributes:
        file: Relative to the folder that was looked at.
        is_read: Whether `data prepare` reads such a file: a NIfTI mask by its name
            alone, see `dicom_index.is_nifti_mask`.
        series: The label of the CT series that it names, if that is in the folder.
        segments: Labels; of a NIfTI mask, the values.
        voxels: Of each segment, in the same order; None for an RTSTRUCT, whose contours
            have voxels on a CT alone.
    """

    file: str
    format: SegmentationFormat
    is_read: bool
    series: str | None
    segments: tuple[str, ...]
    voxels: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class TableFinding:
    """One table, of a workbook the first sheet; `rows` are those below the header."""

    file: str
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class DamagedFile:
    """A file or folder that could not be read, and why, without its contents."""

    file: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class FolderInspection:
    """All that was found under a folder; the lists are on the disk.

    Attributes:
        patients: Distinct patients in the DICOM files.
        other: Kind -> files and links that are none of the above.
    """

    patients: int
    series: Sequence[SeriesFinding]
    segmentations: Sequence[SegmentationFinding]
    tables: Sequence[TableFinding]
    damaged: Sequence[DamagedFile]
    other: dict[str, int]

    @property
    def meanings(self) -> dict[str, str]:
        """What every code of these series means."""
        found = {
            code for series in self.series for code in (*series.codes, *series.repaired)
        }
        return {code: GATE_CODES[code] for code in sorted(found)}

    def write_json(self) -> Iterator[str]:
        """Yield all of it as one JSON object, piece by piece: it may be long."""
        yield f'{{"patients": {self.patients}'
        for name, found in self._lists():
            yield f', "{name}": ['
            for place, one in enumerate(found):
                yield f"{', ' if place else ''}{json.dumps(asdict(one))}"
            yield "]"
        yield f', "other": {json.dumps(self.other)}'
        yield f', "meanings": {json.dumps(self.meanings)}}}'

    def _lists(self) -> tuple[tuple[str, Sequence[Any]], ...]:
        return (
            ("series", self.series),
            ("segmentations", self.segmentations),
            ("tables", self.tables),
            ("damaged", self.damaged),
        )
