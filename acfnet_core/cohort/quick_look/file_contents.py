"""What lies in one file of any folder, as a quick look needs it; read under limits.

`sort_of` opens a file and looks at its first bytes. `read_contents` parses it, and is
meant to be called in a reader, see `guarded.reader`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from acfnet_core.cohort.guarded.limits import LOOK_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each
from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    InstanceHeader,
    quiet_dicom,
    read_headers,
)
from acfnet_core.cohort.images.refusals import SEGMENTATION_CODES
from acfnet_core.cohort.masks.nifti_contents import (
    NIFTI_ERRORS,
    NiftiContents,
    read_nifti_contents,
)
from acfnet_core.cohort.masks.segment_counts import SEGMENT_ERRORS, count_segments
from acfnet_core.cohort.table.table_file import read_cells
from acfnet_core.errors import DataError

Sort = Literal["closed", "dicomdir", "empty", "dicom", "table", "nifti", "rest"]

_PARSED: tuple[Sort, ...] = ("dicom", "table", "nifti")
_MARK_ENDS_AT = 132
_TABLES = (".csv", ".xlsx")
_NIFTI = (".nii", ".nii.gz")
_READ_ENDINGS = (".dcm", *_TABLES, *_NIFTI)
_BATCH = 500
_FAILURES = {
    "READER_DIED": "crashed the program that read it",
    "READER_LIMIT": "takes more memory or time to read than any file of a CT",
}


@dataclass(frozen=True, kw_only=True)
class FileContents:
    """What was found in a file.

    Attributes:
        problem: Why nothing can be told of it; empty if all is well.
        is_header_broken: Whether a slice of a CT series may be lost with it.
        headers: Of a DICOM file; of enhanced CT, one for each frame.
        segments: Of a DICOM SEG, each segment's label and number of voxels.
        table_size: Rows and columns.
    """

    problem: str = ""
    is_header_broken: bool = False
    headers: tuple[InstanceHeader, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()
    nifti: NiftiContents | None = None
    table_size: tuple[int, int] = (0, 0)


def sort_of(path: Path) -> Sort:
    """Tell what a file is, from its name and its first bytes."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            is_dicom = file.read(_MARK_ENDS_AT)[-4:] == b"DICM"
    except OSError:
        return "closed"
    name = path.name.lower()
    if path.name == "DICOMDIR":
        return "dicomdir"
    if size_bytes == 0 and name.endswith(_READ_ENDINGS):
        return "empty"
    if is_dicom:
        return "dicom"
    if name.endswith(_TABLES):
        return "table"
    return "nifti" if name.endswith(_NIFTI) else "rest"


def look_into(files: Iterable[Path]) -> Iterator[tuple[Path, Sort, FileContents]]:
    """Read every file that can be parsed, in readers, and yield all in their order."""
    files = iter(files)
    while batch := [(path, sort_of(path)) for path in islice(files, _BATCH)]:
        yield from _look_into_batch(batch)


def _look_into_batch(
    files: Sequence[tuple[Path, Sort]],
) -> Iterator[tuple[Path, Sort, FileContents]]:
    parsed = [(path, sort) for path, sort in files if sort in _PARSED]
    readings = read_each(read_contents, parsed, limits=LOOK_LIMITS, batch_size=_BATCH)
    for path, sort in files:
        contents: FileContents | ReaderFailure = FileContents()
        if sort in _PARSED:
            contents = next(readings)
        if isinstance(contents, ReaderFailure):
            contents = FileContents(
                problem=_FAILURES[contents.code], is_header_broken=sort == "dicom"
            )
        yield path, sort, contents


def read_contents(file: tuple[Path, Sort]) -> FileContents:
    """Parse one file; what is wrong with it is part of the answer."""
    path, sort = file
    if sort == "table":
        return _read_table(path)
    if sort == "nifti":
        return _read_nifti(path)
    with quiet_dicom():
        return _read_dicom(path)


def _read_dicom(path: Path) -> FileContents:
    try:
        headers = read_headers(path)
    except READ_ERRORS:
        return FileContents(
            problem="has a DICOM header that is damaged, cut off or deflated",
            is_header_broken=True,
        )
    if headers[0].modality != "SEG":
        return FileContents(headers=headers)
    try:
        counts = tuple(count_segments(path).values())
    except SEGMENT_ERRORS:
        unreadable = SEGMENTATION_CODES["SEG_UNREADABLE"]
        return FileContents(problem=unreadable, headers=headers)
    return FileContents(headers=headers, segments=counts)


def _read_nifti(path: Path) -> FileContents:
    try:
        return FileContents(nifti=read_nifti_contents(path))
    except NIFTI_ERRORS:
        return FileContents(problem="is damaged, cut off, or no NIfTI volume")


def _read_table(path: Path) -> FileContents:
    try:
        columns, rows = read_cells(path)
    except DataError as error:
        said = error.message.removeprefix(f"{path}: ").rstrip(".")
        return FileContents(problem=said)
    return FileContents(table_size=(len(rows), len(columns)))
