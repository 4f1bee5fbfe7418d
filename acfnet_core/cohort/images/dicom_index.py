"""What DICOM lies under a folder, from headers alone.

Everything here is metadata: pixel data is never touched. Links that lead out of the
folder are not followed, a DICOMDIR is not believed, and a deflated file is not
inflated: its true size is unknown until it is too late.
"""

import logging
import re
import struct
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from acfnet_core.cohort.masks.rtstruct_header import (
    HEADER_TAGS,
    frame_of_structures,
    names_of_structures,
    series_of_structures,
)
from acfnet_core.errors import DataError

READ_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    OSError,
    EOFError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and highdicom raise on broken files. Their texts hold values of the
header, so that none of them may be chained or logged."""

_TAGS = [
    "AcquisitionNumber",
    "BitsAllocated",
    "BurnedInAnnotation",
    "Columns",
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "LossyImageCompression",
    "Modality",
    "NumberOfFrames",
    "PatientID",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ReferencedSeriesSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SegmentSequence",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyDate",
    "StudyInstanceUID",
    *HEADER_TAGS,
]
_NIFTI_MASK = re.compile(r"(.*_)?seg(mentation)?\.nii(\.gz)?", re.IGNORECASE)
_PREAMBLE_BYTES = 132


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """What the gate needs of one file; identifiers are kept out of its repr.

    Attributes:
        pixel_bytes: Bytes in the file after the header.
        frame_of_reference_uid: Of an RTSTRUCT, that of its structures.
        referenced_series: Of a segmentation, the series it says it was drawn on.
        segment_labels: Of a segmentation; of an RTSTRUCT, its structures' names.
        mended: Codes of what the file lacks and `repairs.mend_headers` made up.
    """

    path: Path = field(repr=False)
    patient_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    frame_of_reference_uid: str = field(repr=False)
    study_date: str = field(repr=False)
    series_description: str = field(repr=False)
    sop_class_uid: str
    modality: str
    transfer_syntax: str
    image_type: tuple[str, ...]
    photometric: str
    is_burned_in: bool
    is_lossy: bool | None
    bits_allocated: int
    num_samples: int
    num_frames: int
    num_rows: int
    num_columns: int
    pixel_bytes: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    has_rescale: bool
    referenced_series: tuple[str, ...] = field(default=(), repr=False)
    segment_labels: tuple[str, ...] = field(default=(), repr=False)
    mended: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DicomIndex:
    """All readable headers under one folder.

    Attributes:
        ct_series: One tuple of headers for each CT series, in the order of their UIDs.
        segmentations: DICOM SEG and RTSTRUCT files.
        nifti_masks: Files named as NIfTI masks are, see `is_nifti_mask`; not opened.
        num_ignored: Files that are no DICOM, or of another modality, or links outward.
        broken_folders: Folders with a DICOM file whose header cannot be read: a series
            there may lack a slice without showing it.
        num_broken: How many such files there are.
    """

    ct_series: tuple[tuple[InstanceHeader, ...], ...]
    segmentations: tuple[InstanceHeader, ...]
    num_ignored: int
    num_broken: int
    broken_folders: frozenset[Path]
    nifti_masks: tuple[Path, ...] = field(default=(), repr=False)


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Silence pydicom's and highdicom's remarks: they quote values of the header.

    What is wrong with a file is found by our own gate. (pydicom 3.0.2 warns of and logs
    the value itself, highdicom 0.28 warns of missing optional attributes.)
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate


def index_folder(root: Path) -> DicomIndex:
    """Read the header of every file under `root` and group CT files into series.

    Raises:
        DataError: `root` is not a folder.
    """
    if not root.is_dir():
        raise DataError(
            "data.path_not_found",
            f"{root}: there is no such folder; the folder of the DICOM files is "
            "expected here.",
            remedy="Correct the path of the images.",
        )
    series: dict[str, list[InstanceHeader]] = defaultdict(list)
    segmentations: list[InstanceHeader] = []
    broken: list[Path] = []
    nifti_masks: list[Path] = []
    num_ignored = 0
    with quiet_dicom():
        for path in _files_under(root.resolve()):
            if is_nifti_mask(path):
                nifti_masks.append(path)
                continue
            try:
                header = read_header(path) if _looks_like_dicom(path) else None
            except READ_ERRORS:
                broken.append(path.parent)
                continue
            if header is not None and header.modality == "CT":
                # Files without a series UID are kept apart by their folder.
                key = header.series_uid or f"in {path.parent}"
                series[key].append(header)
            elif header is not None and header.modality in ("SEG", "RTSTRUCT"):
                segmentations.append(header)
            else:
                num_ignored += 1
    return DicomIndex(
        ct_series=tuple(tuple(series[key]) for key in sorted(series)),
        segmentations=tuple(segmentations),
        num_ignored=num_ignored,
        num_broken=len(broken),
        broken_folders=frozenset(broken),
        nifti_masks=tuple(nifti_masks),
    )


def is_nifti_mask(path: Path) -> bool:
    """Tell whether a file is named as a mask of the series in its folder.

    Such a name is `seg` or `segmentation`, alone or after an underscore, with the
    ending .nii or .nii.gz; case does not matter.
    """
    return _NIFTI_MASK.fullmatch(path.name) is not None


def read_header(path: Path) -> InstanceHeader:
    """Read one file's header.

    Raises:
        Exception: Any of `READ_ERRORS`; their texts may hold values of the header.
    """
    with path.open("rb") as file:
        syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
        if syntax == DeflatedExplicitVRLittleEndian:
            raise InvalidDicomError("a deflated file is not inflated")
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        pixel_bytes = path.stat().st_size - file.tell()
    header = _to_header(path, dataset, syntax, pixel_bytes)
    if not header.modality:
        raise InvalidDicomError("a file that breaks off reads as one with few elements")
    return header


def _files_under(folder: Path) -> Iterator[Path]:
    """Yield regular files, in a fixed order; a linked folder is not entered."""
    root = folder
    pending = [folder]
    while pending:
        entries = sorted(pending.pop().iterdir())
        pending.extend(
            entry
            for entry in reversed(entries)
            if entry.is_dir() and not entry.is_symlink()
        )
        for entry in entries:
            leads_out = entry.is_symlink() and not entry.resolve().is_relative_to(root)
            if not leads_out and entry.is_file() and entry.name != "DICOMDIR":
                yield entry


def _looks_like_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES)[-4:] == b"DICM"


def _to_header(
    path: Path, dataset: Any, syntax: str, pixel_bytes: int
) -> InstanceHeader:
    lossy = str(dataset.get("LossyImageCompression", "") or "")
    modality = _text(dataset, "Modality")
    is_structures = modality == "RTSTRUCT"
    frame_of_reference_uid = (
        frame_of_structures(dataset)
        if is_structures
        else _text(dataset, "FrameOfReferenceUID")
    )
    return InstanceHeader(
        path=path,
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=frame_of_reference_uid,
        study_date=_text(dataset, "StudyDate"),
        series_description=_text(dataset, "SeriesDescription"),
        sop_class_uid=_text(dataset, "SOPClassUID"),
        modality=modality,
        transfer_syntax=syntax,
        image_type=tuple(str(part) for part in dataset.get("ImageType", None) or ()),
        photometric=_text(dataset, "PhotometricInterpretation"),
        is_burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        is_lossy={"00": False, "01": True}.get(lossy),
        bits_allocated=_integer(dataset, "BitsAllocated"),
        num_samples=_integer(dataset, "SamplesPerPixel", 1),
        num_frames=_integer(dataset, "NumberOfFrames", 1),
        num_rows=_integer(dataset, "Rows"),
        num_columns=_integer(dataset, "Columns"),
        pixel_bytes=pixel_bytes,
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        has_rescale=_has_rescale(dataset),
        referenced_series=(
            series_of_structures(dataset)
            if is_structures
            else _referenced_series(dataset)
        ),
        segment_labels=(
            names_of_structures(dataset) if is_structures else _segment_labels(dataset)
        ),
    )


def _text(dataset: Any, name: str) -> str:
    return str(dataset.get(name, "") or "").strip()


def _integer(dataset: Any, name: str, default: int = 0) -> int:
    value = dataset.get(name)
    return default if value is None else int(value)


def _numbers(dataset: Any, name: str, count: int) -> tuple[float, ...] | None:
    value = dataset.get(name)
    numbers = tuple(float(part) for part in value) if value is not None else ()
    return numbers if len(numbers) == count else None


def _has_rescale(dataset: Any) -> bool:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return slope is not None and intercept is not None and float(slope) != 0


def _referenced_series(dataset: Any) -> tuple[str, ...]:
    items = dataset.get("ReferencedSeriesSequence", None) or ()
    return tuple(str(item.get("SeriesInstanceUID", "")) for item in items)


def _segment_labels(dataset: Any) -> tuple[str, ...]:
    items = dataset.get("SegmentSequence", None) or ()
    return tuple(str(item.get("SegmentLabel", "")) for item in items)
