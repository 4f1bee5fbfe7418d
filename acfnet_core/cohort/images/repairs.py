"""Which faults of a CT series a site lets be mended, and how headers are mended.

Nothing is mended unless the site says so, and what was mended stands in the manifest.
Files are never changed: a mended header lives in memory.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import CTImageStorage

from acfnet_core.cohort.images.dicom_index import DicomIndex, InstanceHeader
from acfnet_core.cohort.lazy_sequence import MappedSequence

Headers = tuple[InstanceHeader, ...]


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What a site switches on; section [data.repairs] of site.toml.

    Attributes:
        gantry_tilt: Slices that are evenly shifted sideways are read where they lie.
        missing_slices: A lost slice between two that are there is interpolated.
        empty_uids: Files that lack UIDs get made-up ones, the same at every reading.
        patient_from_folder: Files without a patient identifier belong to the patient
            after whom the topmost folder below the images is named.
    """

    gantry_tilt: bool = False
    missing_slices: bool = False
    empty_uids: bool = False
    patient_from_folder: bool = False


NO_REPAIRS = Repairs()
ALL_REPAIRS = Repairs(
    gantry_tilt=True, missing_slices=True, empty_uids=True, patient_from_folder=True
)
VOXEL_REPAIRS = frozenset({"GANTRY_TILT", "MISSING_SLICES"})
"""Codes whose mending decides where voxels lie, or what they hold."""


def mend_index(index: DicomIndex, root: Path, repairs: Repairs) -> DicomIndex:
    """Return the index with its headers mended, each time that they are read.

    What segmentations lack is the patient alone: UIDs made up for a CT are in no other
    file.

    Args:
        index: Of `root`.
        root: The folder of the images.
        repairs: What the site has switched on.
    """
    without_uids = replace(repairs, empty_uids=False)

    def mend_one(header: InstanceHeader) -> InstanceHeader:
        return mend_headers((header,), root, without_uids)[0]

    return replace(
        index,
        ct_series=MappedSequence(mender_of(index, root, repairs), index.ct_series),
        segmentations=MappedSequence(mend_one, index.segmentations),
    )


def mender_of(
    index: DicomIndex, root: Path, repairs: Repairs
) -> Callable[[Headers], Headers]:
    """Return what mends the headers of a CT series of an index.

    Files without a series UID that may be of several series stay as they are.

    Args:
        index: Of `root`, not mended.
        root: The folder of the images.
        repairs: What the site has switched on.
    """
    named = _folders_of_both(index) if repairs.empty_uids else frozenset()
    without_uids = replace(repairs, empty_uids=False)

    def mend(series: Headers) -> Headers:
        is_one = _is_one_series(series, named)
        return mend_headers(series, root, repairs if is_one else without_uids)

    return mend


def _folders_of_both(index: DicomIndex) -> frozenset[Path]:
    """Return the folders with CT files of which some have a series UID, some none."""
    firsts = (series[0] for series in index.ct_series)
    nameless = {first.path.parent for first in firsts if not first.series_uid}
    if not nameless:
        return frozenset()
    return frozenset(
        header.path.parent
        for series in index.ct_series
        for header in series
        if header.series_uid and header.path.parent in nameless
    )


def mend_headers(
    headers: Iterable[InstanceHeader], root: Path, repairs: Repairs
) -> Headers:
    """Return headers with what they lack, where the site allows it.

    A header that was changed says so in `mended`. A UID is made of the file's place
    below `root`, never of its content: it stays the same while the file stays there.
    """
    folder = root.resolve()
    mended = tuple(headers)
    if repairs.patient_from_folder:
        mended = tuple(_with_patient(header, folder) for header in mended)
    if repairs.empty_uids:
        mended = tuple(_with_uids(header, folder) for header in mended)
    return mended


def _is_one_series(
    headers: Sequence[InstanceHeader], named_folders: Collection[Path]
) -> bool:
    """Tell whether headers without a series UID are of one series for all they say.

    Args:
        headers: Of one series UID; if that is empty, of one folder.
        named_folders: Folders with CT files that have a series UID: those without one
            may belong to the same series.
    """
    if headers[0].series_uid:
        return True
    marks = {(h.series_number, h.series_description, h.study_date) for h in headers}
    return len(marks) == 1 and headers[0].path.parent not in named_folders


def _with_patient(header: InstanceHeader, root: Path) -> InstanceHeader:
    parts = header.path.relative_to(root).parts
    if header.patient_id or len(parts) < 2:
        return header
    return replace(
        header, patient_id=parts[0], mended=(*header.mended, "NO_PATIENT_ID")
    )


def _with_uids(header: InstanceHeader, root: Path) -> InstanceHeader:
    place = header.path.relative_to(root)
    folder = place.parent.as_posix()
    series_uid = header.series_uid or _make_uid("series", folder)
    # Series of one day are of one study: else each would count as a time point.
    study = (header.patient_id, header.study_date) if header.study_date else (folder,)
    complete = replace(
        header,
        study_uid=header.study_uid or _make_uid("study", *study),
        series_uid=series_uid,
        sop_instance_uid=header.sop_instance_uid
        or _make_uid("instance", place.as_posix()),
        frame_of_reference_uid=header.frame_of_reference_uid
        or _make_uid("frame", series_uid),
        # The gate still asks whether the rest is a plain CT image.
        sop_class_uid=header.sop_class_uid or str(CTImageStorage),
    )
    if complete == header:
        return header
    return replace(complete, mended=(*header.mended, "EMPTY_UID"))


def _make_uid(*parts: str) -> str:
    """Return a UID below root 2.25.

    Source: DICOM PS3.5 section B.2; the 128 bits are a hash in place of a UUID.
    """
    digest = hashlib.sha256("/".join(parts).encode("utf-8", "surrogateescape"))
    return f"2.25.{int.from_bytes(digest.digest()[:16])}"
