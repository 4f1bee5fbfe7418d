"""What DICOM lies under a folder, from headers alone.

Everything here is metadata: pixel data is never touched. Links that lead out of the
folder are not followed, a DICOMDIR is not believed, and a deflated file is not
inflated: its true size is unknown until it is too late. Headers are read by a process
of their own, so that a file that crashes it, or asks for too much, is one broken file.
"""

import logging
import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from acfnet_core.cohort.guarded.frames import pack_body
from acfnet_core.cohort.guarded.limits import HEADER_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each
from acfnet_core.cohort.images.enhanced_ct import (
    ENHANCED_CT_STORAGE,
    GROUP_TAGS,
    plain_frames,
)
from acfnet_core.cohort.images.files_below import files_below
from acfnet_core.cohort.images.header_fields import fields_of
from acfnet_core.cohort.images.header_runs import HeaderRuns
from acfnet_core.cohort.images.plain_head import HEAD_BYTES, read_plain_head
from acfnet_core.cohort.masks.rtstruct_header import HEADER_TAGS
from acfnet_core.cohort.spool import Spool
from acfnet_core.errors import DataError

READ_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    OSError,
    EOFError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and highdicom raise on broken files. Their texts hold values of the
header, so that none of them may be chained or logged."""

HEADER_KEYWORDS = (
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
    "PatientAge",
    "PatientID",
    "PatientSex",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ReferencedSeriesSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SegmentSequence",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "StudyDate",
    "StudyInstanceUID",
    *HEADER_TAGS,
)
"""What is read of a file; of a plain one `plain_head` reads it."""

_NIFTI_MASK = re.compile(r"(.*_)?seg(mentation)?\.nii(\.gz)?", re.IGNORECASE)
_PREAMBLE_BYTES = 132
_BATCH = 1000
"""Files that one reader takes: a new one costs 5 ms, a header 0.3 ms."""
_MOST_BYTES = 2**20
"""Of what is taken of a file without frames; a header of a CT gives 700."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceHeader:
    """What the gate needs of one image; identifiers are kept out of its repr.

    An image is a file, or a frame of an enhanced CT file.

    Attributes:
        patient_sex: With `patient_age` compared with the table, never put in its place.
        pixel_bytes: Bytes in the file after the header; of a frame, its even share.
        frame_of_reference_uid: Of an RTSTRUCT, that of its structures.
        referenced_series: Of a segmentation, the series it says it was drawn on.
        segment_labels: Of a segmentation; of an RTSTRUCT, its structures' names.
        frame_number: Of a frame, its number in the file, from 1; else 0.
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
    slice_thickness_mm: float | None = None
    referenced_series: tuple[str, ...] = field(default=(), repr=False)
    segment_labels: tuple[str, ...] = field(default=(), repr=False)
    frame_number: int = 0
    mended: tuple[str, ...] = ()
    patient_sex: str = field(default="", repr=False)
    patient_age: str = field(default="", repr=False)
    series_number: str = ""

    def __getstate__(self) -> tuple[object, ...]:
        """Return the values in their order, as quickly as can be."""
        return _values_of(self)

    def __setstate__(self, values: tuple[object, ...]) -> None:
        """Take the values in their order."""
        for name, value in zip(InstanceHeader.__slots__, values, strict=True):
            object.__setattr__(self, name, value)


_values_of = attrgetter(*InstanceHeader.__slots__)


@dataclass(frozen=True, kw_only=True)
class DicomIndex:
    """All readable headers under one folder; they are read from notes on the disk.

    Attributes:
        ct_series: One tuple of headers for each CT series, in the order of their UIDs;
            an enhanced CT file has one header for each frame.
        segmentations: DICOM SEG and RTSTRUCT files.
        nifti_masks: Files named as NIfTI masks are, see `is_nifti_mask`; not opened.
        num_ignored: Files that are no DICOM, or of another modality, or links outward.
        broken_folders: Folders with a DICOM file whose header cannot be read: a series
            there may lack a slice without showing it.
        num_broken: How many such files there are.
        spool: Where what grows with the files lies; what is made of them goes there.
    """

    ct_series: Sequence[tuple[InstanceHeader, ...]]
    segmentations: Sequence[InstanceHeader]
    num_ignored: int
    num_broken: int
    broken_folders: frozenset[Path]
    nifti_masks: Sequence[Path] = field(default=(), repr=False)
    spool: Spool = field(default_factory=Spool, repr=False, compare=False)


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


def index_folder(root: Path, spool: Spool | None = None) -> DicomIndex:
    """Read the header of every file under `root` and group CT files into series.

    Args:
        root: The folder.
        spool: Where the headers are put; None makes a new one.

    Raises:
        DataError: `root` is not a folder.
        MachineError: The headers cannot be put on the disk.
    """
    if not root.is_dir():
        raise DataError(
            "data.path_not_found",
            f"{root}: there is no such folder; the folder of the DICOM files is "
            "expected here.",
            remedy="Correct the path of the images.",
        )
    spool = spool or Spool()
    series = HeaderRuns(spool)
    segmentations = spool.new_list()
    nifti_masks = spool.new_list()
    broken_folders: set[Path] = set()
    num_broken = num_ignored = 0
    closed: list[Path] = []
    for path, headers in _read_by_batches(files_below(root.resolve(), closed=closed)):
        if headers is None or isinstance(headers, ReaderFailure):
            broken_folders.add(path.parent)
            num_broken += 1
        elif is_nifti_mask(path):
            nifti_masks.append(path)
        elif headers and headers[0].modality == "CT":
            # Files without a series UID are kept apart by their folder.
            series.add(headers[0].series_uid or f"in {path.parent}", headers)
        elif headers and headers[0].modality in ("SEG", "RTSTRUCT"):
            segmentations.append(headers[0])
        else:
            num_ignored += 1
    return DicomIndex(
        ct_series=series.by_key(),
        segmentations=segmentations,
        num_ignored=num_ignored,
        num_broken=num_broken + len(closed),
        broken_folders=frozenset(broken_folders.union(closed)),
        nifti_masks=nifti_masks,
        spool=spool,
    )


def _read_by_batches(
    files: Iterable[Path],
) -> Iterator[tuple[Path, tuple[InstanceHeader, ...] | ReaderFailure | None]]:
    """Yield each file with its headers, a NIfTI mask unread with none.

    The paths of one batch are in memory: those of all files would take as much as
    their headers.
    """
    files = iter(files)
    while batch := list(islice(files, _BATCH)):
        paths = [path for path in batch if not is_nifti_mask(path)]
        yield from ((path, ()) for path in batch if is_nifti_mask(path))
        readings = read_each(
            headers_if_dicom, paths, limits=HEADER_LIMITS, batch_size=_BATCH
        )
        yield from zip(paths, readings, strict=True)


def is_nifti_mask(path: Path) -> bool:
    """Tell whether a file is named as a mask of the series in its folder.

    Such a name is `seg` or `segmentation`, alone or after an underscore, with the
    ending .nii or .nii.gz; case does not matter.
    """
    return _NIFTI_MASK.fullmatch(path.name) is not None


def headers_if_dicom(path: Path) -> tuple[InstanceHeader, ...] | None:
    """Read one file's headers: none if it is no DICOM, None if it is broken."""
    try:
        plain = _read_plain_header(path)
    except OSError:
        return None
    if plain is not None:
        return (plain,)
    with quiet_dicom():
        try:
            return read_headers(path) if _looks_like_dicom(path) else ()
        except READ_ERRORS:
            return None


def read_headers(path: Path) -> tuple[InstanceHeader, ...]:
    """Read one file's header; of enhanced CT that is one stack, that of each frame.

    Raises:
        Exception: Any of `READ_ERRORS`; their texts may hold values of the header.
    """
    header = _read_plain_header(path) or read_header(path)
    if header.sop_class_uid != ENHANCED_CT_STORAGE:
        return (header,)
    tags = [*HEADER_KEYWORDS, *GROUP_TAGS]
    dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    frames = plain_frames(dataset)
    syntax, share = header.transfer_syntax, header.pixel_bytes // max(len(frames), 1)
    return tuple(
        replace(_to_header(path, frame, syntax, share), frame_number=number)
        for number, frame in enumerate(frames, start=1)
    ) or (header,)


def read_header(path: Path) -> InstanceHeader:
    """Read one file's header, whatever number of frames it has.

    Raises:
        Exception: Any of `READ_ERRORS`; their texts may hold values of the header.
    """
    with path.open("rb") as file:
        syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
        if syntax == DeflatedExplicitVRLittleEndian:
            raise InvalidDicomError("a deflated file is not inflated")
        dataset = dcmread(
            file, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS)
        )
        pixel_bytes = path.stat().st_size - file.tell()
    header = _to_header(path, dataset, syntax, pixel_bytes)
    if not header.modality:
        raise InvalidDicomError("a file that breaks off reads as one with few elements")
    if len(pack_body(header)) > _MOST_BYTES:
        raise InvalidDicomError("no header says as much")
    return header


def _read_plain_header(path: Path) -> InstanceHeader | None:
    with path.open("rb", buffering=0) as file:
        head = read_plain_head(file.read(HEAD_BYTES))
        if head is None:
            return None
        pixel_bytes = os.fstat(file.fileno()).st_size - head.ends_at
    return _to_header(path, head.values, head.transfer_syntax, pixel_bytes)


def _looks_like_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES)[-4:] == b"DICM"


def _to_header(
    path: Path, dataset: Any, syntax: str, pixel_bytes: int
) -> InstanceHeader:
    return InstanceHeader(
        path=path,
        transfer_syntax=syntax,
        pixel_bytes=pixel_bytes,
        **fields_of(dataset),
    )
