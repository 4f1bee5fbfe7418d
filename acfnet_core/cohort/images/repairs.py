"""Which faults of a CT series a site lets be mended, and how headers are mended.

Nothing is mended unless the site says so, and what was mended stands in the manifest.
Files are never changed: a mended header lives in memory.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import CTImageStorage

from acfnet_core.cohort.images.dicom_index import DicomIndex, InstanceHeader


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


def mend_index(index: DicomIndex, root: Path, repairs: Repairs) -> DicomIndex:
    """Return the index with the headers of its CT series mended.

    Args:
        index: Of `root`.
        root: The folder of the images.
        repairs: What the site has switched on.
    """
    series = tuple(mend_headers(one, root, repairs) for one in index.ct_series)
    return replace(index, ct_series=series)


def mend_headers(
    headers: Iterable[InstanceHeader], root: Path, repairs: Repairs
) -> tuple[InstanceHeader, ...]:
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
    complete = replace(
        header,
        study_uid=header.study_uid or _make_uid("study", folder),
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
