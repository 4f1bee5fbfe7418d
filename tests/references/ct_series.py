"""CT series and segmentations as files, whose every voxel is known.

The value at a place (x, y, z) in mm is a plane, `hu_at`, so that a voxel's value tells
where it should be.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SHAPE = (12, 32, 30)
SPACING_MM = (5.0, 6.0, 7.0)
ORIGIN_MM = (-90.0, -80.0, 40.0)
INTERCEPT = -1024
PATIENT_NAME = "Canary^Planted"


def uid_of(*parts: object) -> str:
    """Return the same UID for the same parts."""
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def hu_at(places_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the value at places (x, y, z), whole numbers on the voxels."""
    return np.asarray(places_mm @ np.array([1.0, 2.0, 1.0]))


def make_series(
    patient_id: str = "P-007",
    *,
    study_date: str = "19920606",
    number: int = 0,
    num_slices: int = SHAPE[0],
) -> list[Dataset]:
    """Return the slices of a faultless series, from the feet to the head."""
    base = _make_header(patient_id, study_date, number)
    rows = np.arange(SHAPE[1]) * SPACING_MM[1] + ORIGIN_MM[1]
    columns = np.arange(SHAPE[2]) * SPACING_MM[2] + ORIGIN_MM[0]
    slices = []
    for index in range(num_slices):
        z = ORIGIN_MM[2] + index * SPACING_MM[0]
        y, x = np.meshgrid(rows, columns, indexing="ij")
        hu = hu_at(np.stack([x, y, np.full_like(x, z)], axis=-1))
        one = copy.deepcopy(base)
        one.SOPInstanceUID = uid_of(patient_id, study_date, number, index)
        one.InstanceNumber = index + 1
        one.ImagePositionPatient = [ORIGIN_MM[0], ORIGIN_MM[1], z]
        one.PixelData = np.rint(hu - INTERCEPT).astype("<i2").tobytes()
        slices.append(one)
    return slices


def _make_header(patient_id: str, study_date: str, number: int) -> Dataset:
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 100"
    one.SOPClassUID = CTImageStorage
    one.PatientID = patient_id
    one.PatientName = PATIENT_NAME
    one.PatientBirthDate = ""
    one.PatientSex = "O"
    one.AccessionNumber = ""
    one.StudyID = "1"
    one.StudyDate = study_date
    one.StudyTime = "120000"
    one.ReferringPhysicianName = ""
    one.Manufacturer = ""
    one.Modality = "CT"
    one.SeriesNumber = 1
    one.StudyInstanceUID = uid_of("study", patient_id, study_date)
    one.SeriesInstanceUID = uid_of("series", patient_id, study_date, number)
    one.FrameOfReferenceUID = uid_of("frame", patient_id, study_date)
    one.PositionReferenceIndicator = ""
    one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.PixelSpacing = [SPACING_MM[1], SPACING_MM[2]]
    one.SliceThickness = SPACING_MM[0]
    one.Rows, one.Columns = SHAPE[1:]
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit = 15
    one.PixelRepresentation = 1
    one.RescaleSlope, one.RescaleIntercept = 1, INTERCEPT
    return one


def write_series(slices: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write slices as files; the names say nothing of the order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, one in enumerate(slices):
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.get("SOPInstanceUID") or "1.2"
        path = folder / f"{(index * 7) % len(slices):03}-{index}.dcm"
        one.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def liver_box(num_slices: int = SHAPE[0]) -> npt.NDArray[np.uint8]:
    """Return a mask of slices 3-8, rows 8-23 and columns 6-20."""
    mask = np.zeros((num_slices, *SHAPE[1:]), np.uint8)
    mask[3:9, 8:24, 6:21] = 1
    return mask


def write_segmentation(
    slices: Sequence[Dataset],
    path: Path,
    masks: dict[str, npt.NDArray[np.uint8]],
    *,
    description: str = "Segmentation",
    kind: str = "BINARY",
    change: Callable[[Any], None] = lambda file: None,
) -> Path:
    """Write masks on the voxels of `slices` as DICOM SEG."""
    pixels = np.stack(list(masks.values()), axis=-1)
    segments = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.Organ, codes.SCT.Liver, "MANUAL"
        )
        for number, label in enumerate(masks, start=1)
    ]
    file = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels.astype(float) if kind == "FRACTIONAL" else pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=uid_of("seg series", path.name, slices[0].SOPInstanceUID),
        series_number=300,
        sop_instance_uid=uid_of("seg", path.name, slices[0].SOPInstanceUID),
        instance_number=1,
        manufacturer="made up",
        manufacturer_model_name="made up",
        software_versions="1",
        device_serial_number="1",
    )
    file.SeriesDescription = description
    change(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path)
    return path
