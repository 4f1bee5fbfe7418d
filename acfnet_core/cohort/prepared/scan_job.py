"""Preparing one patient's scans: the work of one process, from DICOM to safetensors.

A job takes and returns plain values, so that it can run in another process. The name of
a prepared file is the hash of what it was made from, files and specification: a file
that is there and whole need not be made again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acfnet_core.cohort.contract import CHANNELS, ImagingExpectations
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_series import (
    locate_series,
    read_dicom_series,
    read_part,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import (
    GridVolume,
    lay_part_on_grid,
    place_grid,
)
from acfnet_core.cohort.masks.nifti_mask import NiftiMask
from acfnet_core.cohort.masks.segmentation import SegmentationFile, read_segmentation
from acfnet_core.cohort.prepared.manifest import ScanRecord, spec_of
from acfnet_core.cohort.prepared.scan_plan import PlannedScan
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically

SCANS_FOLDER = "scans"
METADATA_KEY = "acfnet"
"""Of a prepared file's own header: its value is JSON."""


@dataclass(frozen=True, kw_only=True)
class ScanJob:
    """One patient's scans that are to be prepared."""

    store_folder: Path
    pseudonym: str
    scans: tuple[PlannedScan, ...]
    imaging: ImagingExpectations | None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a patient's scans.

    Attributes:
        refused: The code of each scan that turned out not to be readable.
    """

    scans: tuple[ScanRecord, ...] = ()
    refused: tuple[str, ...] = ()
    num_reused: int = 0


def run_job(job: ScanJob) -> JobResult:
    """Prepare one patient's scans; a refused scan costs that scan alone.

    Raises:
        MachineError: The store cannot be written.
    """
    records: list[ScanRecord] = []
    refused: list[str] = []
    num_reused = 0
    imaging = job.imaging
    if imaging is None:
        return JobResult()
    for scan in job.scans:
        try:
            record, is_reused = _prepare_scan(job, scan, imaging)
        except ScanRefusedError as error:
            refused.append(error.reason_code)
        else:
            records.append(record)
            num_reused += is_reused
    return JobResult(
        scans=tuple(records), refused=tuple(refused), num_reused=num_reused
    )


def hash_files(paths: Iterable[Path]) -> str:
    """Return a hash of the files' bytes: it changes when any of them does."""
    digest = hashlib.sha256()
    # The frames of one file share its path.
    for path in sorted(set(paths), key=str):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def name_scan(
    series: GatedSeries, segmentation: SegmentationFile, imaging: ImagingExpectations
) -> str:
    """Return the name of the file that is prepared from a series and its segmentation.

    Raises:
        OSError: A file cannot be read.
    """
    paths = [header.path for header in series.headers]
    identity = f"{hash_files((*paths, segmentation.path))} {spec_of(imaging)}"
    if isinstance(segmentation, NiftiMask):
        identity += f" {json.dumps(segmentation.labels)}"
    if series.repaired:
        identity += f" repaired {' '.join(series.repaired)}"
    return hashlib.sha256(identity.encode()).hexdigest()[:40] + ".safetensors"


def _prepare_scan(
    job: ScanJob, scan: PlannedScan, imaging: ImagingExpectations
) -> tuple[ScanRecord, bool]:
    try:
        name = name_scan(scan.series, scan.segmentation, imaging)
    except OSError:
        raise ScanRefusedError("DECODE_FAILED") from None
    folder = Path(SCANS_FOLDER) / job.pseudonym
    path = job.store_folder / folder / name
    channel_mask = _read_whole(path)
    is_reused = channel_mask is not None
    if channel_mask is None:
        make_folder(path.parent, private=True)
        channel_mask = _write_scan(path, scan, imaging)
    record = ScanRecord(
        file=(folder / name).as_posix(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        time_months=scan.time_months,
        time_assumed=scan.time_assumed,
        channel_mask=channel_mask,
        repairs=scan.series.repaired,
    )
    return record, is_reused


def _write_scan(
    path: Path, scan: PlannedScan, imaging: ImagingExpectations
) -> tuple[bool, ...]:
    series = locate_series(scan.series)
    try:
        masks = read_segmentation(scan.segmentation, series, imaging)
    except ScanRefusedError:
        # A fault of the CT is told before one of its masks.
        read_dicom_series(scan.series)
        raise
    place = place_grid(series, masks["liver"], imaging)
    part_hu = read_part(scan.series, place.part)
    grid = lay_part_on_grid(series, part_hu, masks, imaging, place)
    channel_mask = tuple(channel == "ct" or channel in masks for channel in CHANNELS)
    metadata = {
        "spec_sha256": spec_of(imaging),
        "payload_sha256": _payload_of(grid.ct_hu, grid.labels),
        "grid_spacing_mm": imaging.grid_spacing_mm,
        "grid_origin_mm": grid.origin_mm,
        "series_spacing_mm": series.spacing_mm,
        "liver_share_inside": grid.liver_share_inside,
        "channel_mask": channel_mask,
    }
    write_atomically(path, _pack(grid, metadata), mode=PRIVATE_MODE)
    return channel_mask


def _pack(grid: GridVolume, metadata: dict[str, object]) -> bytes:
    # One key only: safetensors writes several in an order that changes with the run.
    return save(
        {"ct_hu": grid.ct_hu, "labels": grid.labels},
        metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)},
    )


def _payload_of(ct_hu: np.ndarray, labels: np.ndarray) -> str:
    return hashlib.sha256(ct_hu.tobytes() + labels.tobytes()).hexdigest()


def _read_whole(path: Path) -> tuple[bool, ...] | None:
    """Return a finished file's channel mask; None if there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            payload = _payload_of(file.get_tensor("ct_hu"), file.get_tensor("labels"))
            channel_mask = tuple(bool(flag) for flag in metadata["channel_mask"])
            is_whole = payload == metadata["payload_sha256"]
    except (SafetensorError, LookupError, OSError, TypeError, ValueError):
        return None
    return channel_mask if is_whole else None
