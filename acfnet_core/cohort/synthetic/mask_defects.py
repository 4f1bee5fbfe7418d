"""Faults that a segmentation can have: each changes the files of a faultless one."""

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.study_files import WrittenStudy

OFF_GRID_VOXELS = 0.4
OFF_SLICE_MM = 0.7

OFF_GRID_MM = 25.0

_PLACES_OF_X = (268, 292)
"""Bytes of the header: qoffset_x and srow_x[3] (NIfTI-1, struct nifti_1_header)."""


def lose_masks(study: WrittenStudy) -> None:
    """Remove every segmentation."""
    for path in study.mask_files:
        path.unlink()


def move_frame(study: WrittenStudy) -> None:
    """Draw the segmentation in another frame of reference."""

    def change(dataset: Dataset) -> None:
        uid = make_uid("another", dataset.SOPInstanceUID)
        if dataset.Modality == "SEG":
            dataset.FrameOfReferenceUID = uid
            return
        for item in dataset.ReferencedFrameOfReferenceSequence:
            item.FrameOfReferenceUID = uid
        for roi in dataset.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = uid

    _change_all(study, change)


def move_off_grid(study: WrittenStudy) -> None:
    """Shift a DICOM SEG by a part of a voxel."""

    def change(dataset: Dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        spacing_mm = float(shared.PixelMeasuresSequence[0].PixelSpacing[1])
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            x_mm, y_mm, z_mm = map(float, place.ImagePositionPatient)
            moved_mm = x_mm + OFF_GRID_VOXELS * spacing_mm
            place.ImagePositionPatient = [
                f"{value_mm:.3f}" for value_mm in (moved_mm, y_mm, z_mm)
            ]

    _change_all(study, change)


def rename_liver(study: WrittenStudy) -> None:
    """Call the liver by another organ's name."""

    def change(dataset: Dataset) -> None:
        for segment in dataset.get("SegmentSequence", ()):
            if segment.SegmentLabel == "Liver":
                segment.SegmentLabel = "Spleen"
        for roi in dataset.get("StructureSetROISequence", ()):
            if roi.ROIName == "Liver":
                roi.ROIName = "Spleen"

    _change_all(study, change)


def lift_contours(study: WrittenStudy) -> None:
    """Shift the contours of an RTSTRUCT off the slices of the CT."""

    def lift(contour: Dataset) -> None:
        values = [float(value) for value in contour.ContourData]
        values[2::3] = [value + OFF_SLICE_MM for value in values[2::3]]
        contour.ContourData = [f"{value:.3f}" for value in values]

    _change_contours(study, lift)


def open_contours(study: WrittenStudy) -> None:
    """Call the contours of an RTSTRUCT open lines."""

    def change(contour: Dataset) -> None:
        contour.ContourGeometricType = "OPEN_PLANAR"

    _change_contours(study, change)


def move_nifti(study: WrittenStudy) -> None:
    """Shift a NIfTI mask sideways."""
    (path,) = study.mask_files
    content = bytearray(gzip.decompress(path.read_bytes()))
    for start in _PLACES_OF_X:
        (value,) = struct.unpack_from("<f", content, start)
        struct.pack_into("<f", content, start, value + OFF_GRID_MM)
    path.write_bytes(gzip.compress(bytes(content), mtime=0))


def double_nifti(study: WrittenStudy) -> None:
    """Put a second NIfTI mask beside the first."""
    (path,) = study.mask_files
    shutil.copyfile(path, path.with_name("draft_seg.nii.gz"))


def _change_contours(study: WrittenStudy, change: Callable[[Dataset], None]) -> None:
    def change_file(dataset: Dataset) -> None:
        for roi in dataset.ROIContourSequence:
            for contour in roi.ContourSequence:
                change(contour)

    _change_all(study, change_file)


def _change_all(study: WrittenStudy, change: Callable[[Dataset], None]) -> None:
    for path in study.mask_files:
        _change(path, change)


def _change(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)
