"""Copying one scan: the work of a process of its own, which foreign files can crash."""

from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.deidentified.export_folder import ExportFolder
from acfnet_core.cohort.deidentified.export_manifest import ExportedFile
from acfnet_core.cohort.deidentified.image_copy import copy_segmentation, copy_series
from acfnet_core.cohort.deidentified.keyed_names import PatientNames
from acfnet_core.cohort.deidentified.nifti_copy import copy_nifti_mask
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.nifti_mask import NiftiMask
from acfnet_core.cohort.prepared.scan_plan import PlannedScan


@dataclass(frozen=True, kw_only=True)
class CopyJob:
    """One scan that is to be copied.

    Attributes:
        root: The export's folder, as it is filled.
        folder: The scan's place in it.
    """

    root: Path
    folder: str
    scan: PlannedScan
    patient: PatientNames
    imaging: ImagingExpectations


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """What became of a scan.

    Attributes:
        files: What was written; nothing if it was refused.
        refused: Why it could not be copied.
    """

    files: tuple[ExportedFile, ...] = field(default=(), repr=False)
    refused: str | None = None


def run_copy_job(job: CopyJob) -> CopyResult:
    """Copy a scan: its slices in a folder of their own, a NIfTI mask beside them.

    Raises:
        MachineError: The folder cannot be written.
    """
    out = ExportFolder(job.root)
    segmentation = job.scan.segmentation
    try:
        if isinstance(segmentation, NiftiMask):
            mask = copy_nifti_mask(segmentation, job.scan.series, job.imaging)
            out.write(f"{job.folder}/ct/segmentation.nii.gz", mask)
        else:
            drawn = copy_segmentation(segmentation, job.patient, job.imaging)
            out.write(f"{job.folder}/segmentation/1.dcm", drawn)
        slices = copy_series(job.scan.series, job.patient, job.imaging)
        for number, content in enumerate(slices, start=1):
            out.write(f"{job.folder}/ct/{number:04}.dcm", content)
    except ScanRefusedError as error:
        out.drop(job.folder)
        return CopyResult(refused=error.reason_code)
    return CopyResult(files=tuple(out.files))
