"""Back from a prepared scan to the files that it was made from.

A prepared file's name is the hash of its sources' bytes and of the specification: the
series found here is that one and no other, whatever was added to the site's folder
since.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool
from pydicom import Dataset, dcmread
from safetensors import SafetensorError, safe_open

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series
from acfnet_core.cohort.images.dicom_index import (
    READ_ERRORS,
    DicomIndex,
    index_folder,
    quiet_dicom,
)
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.enhanced_ct import plain_frames
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs, mend_index
from acfnet_core.cohort.images.volume import SeriesVolume
from acfnet_core.cohort.masks.nifti_mask import NiftiLabels
from acfnet_core.cohort.masks.segmentation import (
    SegmentationFile,
    choose_segmentation,
    read_segmentation,
    segmentations_of,
)
from acfnet_core.cohort.prepared.manifest import ScanRecord, damaged, spec_of
from acfnet_core.cohort.prepared.scan_job import METADATA_KEY, name_scan
from acfnet_core.cohort.spool import Spool
from acfnet_core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class FoundScan:
    """The DICOM files that a prepared scan was made from."""

    series: GatedSeries = field(repr=False)
    segmentation: SegmentationFile = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenedScan:
    """A prepared scan's source in full.

    Attributes:
        volume: The CT series.
        masks: Channel -> mask on the series' own voxels.
        grid_origin_mm: Patient-space centre (x, y, z) of the prepared grid's first
            voxel.
    """

    volume: SeriesVolume
    masks: dict[str, Bool[np.ndarray, "slice row column"]]
    grid_origin_mm: tuple[float, float, float]


def find_scan(
    images_folder: Path,
    patient_id: str,
    record: ScanRecord,
    imaging: ImagingExpectations,
    *,
    nifti_labels: NiftiLabels = MappingProxyType({}),
    repairs: Repairs = NO_REPAIRS,
    notes_folder: Path | None = None,
) -> FoundScan:
    """Find the series and the segmentation that a scan was prepared from.

    Series, segmentation and specification are judged as `prepare_cohort` does; the
    files' bytes must be those of the preparation.

    Args:
        images_folder: The site's DICOM files.
        patient_id: As DICOM has it.
        record: The prepared scan.
        imaging: Of the contract under which it was prepared.
        nifti_labels: What the values in the site's NIfTI masks mean.
        repairs: What the site has switched on.
        notes_folder: See `CohortSources`.

    Raises:
        DataError: `data.source_changed`: the files are gone or were changed;
            `data.path_not_found`: there is no such folder.
    """
    index = index_folder(images_folder, Spool(notes_folder))
    index = mend_index(index, images_folder, repairs)
    drawn = list(segmentations_of(index, nifti_labels).find(patient_id))
    for series, segmentation in _candidates(index, patient_id, drawn, imaging, repairs):
        try:
            name = name_scan(series, segmentation, imaging)
        except OSError:
            continue
        if name == Path(record.file).name:
            return FoundScan(series=series, segmentation=segmentation)
    raise DataError(
        "data.source_changed",
        f"{images_folder}: no series with its segmentation has the bytes that "
        f"{record.file} was prepared from; the files are gone or were changed.",
        remedy="Put the files back, or run `acf-client data prepare` again and repeat "
        "the command.",
    )


def open_scan(
    store_folder: Path,
    record: ScanRecord,
    found: FoundScan,
    imaging: ImagingExpectations,
) -> OpenedScan:
    """Read the series, its masks, and where the prepared grid lies on it.

    Raises:
        DataError: `data.store_damaged`: the prepared file is not the one that was
            written; `data.series_refused` or `data.segmentation_refused`: a source
            cannot be read.
    """
    origin_mm = _read_grid_origin(store_folder, record, imaging)
    volume = read_dicom_series(found.series)
    masks = read_segmentation(found.segmentation, volume, imaging)
    return OpenedScan(volume=volume, masks=masks, grid_origin_mm=origin_mm)


def read_source_headers(series: GatedSeries) -> tuple[Dataset, ...]:
    """Read the whole headers of a series, without pixels, in the order of its slices.

    A frame of an enhanced CT file is told as a plain slice is.

    They hold the patient's identity.

    Raises:
        ScanRefusedError: A file cannot be read any more.
    """
    with quiet_dicom():
        try:
            if series.headers[0].frame_number:
                whole = dcmread(series.headers[0].path, stop_before_pixels=True)
                frames = plain_frames(whole)
                return tuple(frames[h.frame_number - 1] for h in series.headers)
            return tuple(
                dcmread(header.path, stop_before_pixels=True)
                for header in series.headers
            )
        except READ_ERRORS:
            # The error's text may hold values of the header: it must not be chained.
            raise ScanRefusedError("DECODE_FAILED") from None


def _candidates(
    index: DicomIndex,
    patient_id: str,
    drawn: Sequence[SegmentationFile],
    imaging: ImagingExpectations,
    repairs: Repairs,
) -> Iterator[tuple[GatedSeries, SegmentationFile]]:
    """Yield the patient's accepted series, each with the segmentation it would get."""
    for headers in index.ct_series:
        if not any(header.patient_id == patient_id for header in headers):
            continue
        series = gate_series(
            headers, imaging, broken_folders=index.broken_folders, repairs=repairs
        )
        if not series.is_accepted:
            continue
        with contextlib.suppress(ScanRefusedError):
            yield series, choose_segmentation(series, drawn, imaging)


def _read_grid_origin(
    store_folder: Path, record: ScanRecord, imaging: ImagingExpectations
) -> tuple[float, float, float]:
    path = store_folder / record.file
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != record.sha256:
            raise damaged(path)
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
        if metadata["spec_sha256"] != spec_of(imaging):
            raise damaged(path)
        x, y, z = map(float, metadata["grid_origin_mm"])
    except (SafetensorError, LookupError, OSError, TypeError, ValueError) as error:
        raise damaged(path) from error
    return x, y, z
