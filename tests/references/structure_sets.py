"""RTSTRUCT and NIfTI files whose every voxel is known, drawn on `references.ct_series`.

Contours are given in voxels, (row, column), and written in millimetres.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from references.ct_series import uid_of

RT_STRUCTURE_SET_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
Contour = tuple[int, Sequence[tuple[float, float]]]
"""Slice, and the corners of a closed line on it."""


def box(
    low: tuple[float, float], high: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the corners of a rectangle around the voxels from `low` to `high`."""
    (top, left), (bottom, right) = low, high
    top, left, bottom, right = top - 0.5, left - 0.5, bottom + 0.5, right + 0.5
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def liver_contours() -> list[Contour]:
    """Return the outline of `ct_series.liver_box`: slices 3-8, rows and columns."""
    return [(index, box((8, 6), (23, 20))) for index in range(3, 9)]


def affine_of(slices: Sequence[Dataset]) -> npt.NDArray[np.float64]:
    """Return the affine from (slice, row, column) to patient space in mm."""
    first, second = slices[0], slices[1]
    affine = np.eye(4)
    origin = np.array(first.ImagePositionPatient, float)
    affine[:3, 0] = np.array(second.ImagePositionPatient, float) - origin
    orientation = np.array(first.ImageOrientationPatient, float)
    row_spacing, column_spacing = map(float, first.PixelSpacing)
    affine[:3, 1] = orientation[3:] * row_spacing
    affine[:3, 2] = orientation[:3] * column_spacing
    affine[:3, 3] = origin
    return affine


def write_structures(
    slices: Sequence[Dataset],
    path: Path,
    structures: Mapping[str, Sequence[Contour]],
    *,
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    change: Callable[[Dataset], None] = lambda file: None,
) -> Path:
    """Write structures drawn on `slices` as RTSTRUCT."""
    file = _make_file(slices[0], path.name)
    affine = affine_of(slices)
    file.StructureSetROISequence = []
    file.ROIContourSequence = []
    for number, (name, contours) in enumerate(structures.items(), start=1):
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = slices[0].FrameOfReferenceUID
        roi.ROIName = name
        file.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for index, corners in contours:
            places = np.array([[index, *corner, 1.0] for corner in corners])
            points = (places @ affine.T)[:, :3] + shift_mm
            one = Dataset()
            one.ContourGeometricType = "CLOSED_PLANAR"
            one.NumberOfContourPoints = len(points)
            one.ContourData = [f"{value:.6g}" for value in points.ravel()]
            drawn.ContourSequence.append(one)
        file.ROIContourSequence.append(drawn)
    change(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def _make_file(first: Dataset, name: str) -> Dataset:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = RT_STRUCTURE_SET_STORAGE
    file.SOPInstanceUID = uid_of("structures", name, first.SOPInstanceUID)
    file.Modality = "RTSTRUCT"
    file.PatientID, file.PatientName = first.PatientID, first.PatientName
    file.StudyInstanceUID, file.StudyDate = first.StudyInstanceUID, first.StudyDate
    file.SeriesInstanceUID = uid_of("structures series", name, first.SOPInstanceUID)
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    file.ReferencedFrameOfReferenceSequence = [frame]
    return file


def write_nifti(
    path: Path,
    values: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    *,
    order: tuple[int, int, int] = (0, 1, 2),
    flipped: tuple[int, ...] = (),
) -> Path:
    """Write voxels, axes (slice, row, column), as NIfTI with their place.

    Args:
        path: Ends in .nii or .nii.gz.
        values: The voxels.
        affine: From their indices to patient space in mm.
        order: Of the file's slowest, middle and fastest axis, which one it is.
        flipped: Axes of `values` that run the other way in the file.
    """
    turn = np.eye(4)
    for axis in flipped:
        turn[axis, axis], turn[axis, 3] = -1, values.shape[axis] - 1
    placed = affine @ turn
    stored = np.flip(values, flipped).transpose(order)
    axes = placed[:3, list(order)]
    spacing = np.linalg.norm(axes, axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(stored))
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((axes / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(placed[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), imageIO="NiftiImageIO")
    return path
