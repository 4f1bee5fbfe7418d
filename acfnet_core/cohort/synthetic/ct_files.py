"""Writing a made-up scan as a series of CT slices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt16
from openjpeg.utils import encode
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.image import SyntheticScan
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient
from acfnet_core.cohort.synthetic.study_header import (
    STUDY_TIME,
    Demographics,
    describe_study,
)

PixelCoding = Literal["plain", "JPEG 2000"]
"""How pixels are stored; both keep every value."""

CT_SERIES_DESCRIPTION = "SYNTHETIC PORTAL VENOUS"
CT_SERIES_NUMBER = 100
RESCALE_INTERCEPT = -1024

_BITS_STORED = 12
_MONOCHROME = 2
_CODESTREAM = 0


def write_ct(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    study_folder: Path,
    *,
    demographics: Demographics,
    coding: PixelCoding,
) -> list[Dataset]:
    """Write the slices, foot to head, and return their headers without pixels.

    Raises:
        OSError: The folder cannot be written.
    """
    template = describe_series(patient, scan, content, demographics)
    series_uid = str(template.SeriesInstanceUID)
    folder = make_series_folder(study_folder, series_uid)
    places = zip(stored_values(content), place_slices(content), strict=True)
    headers = []
    for number, (pixels, position) in enumerate(places, start=1):
        # The slice's own tags are new elements: those of the template are shared.
        dataset = Dataset()
        dataset.update(template)
        dataset.SOPInstanceUID = make_uid("slice", series_uid, number)
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = position
        dataset.SliceLocation = position[-1]
        _store_pixels(dataset, pixels, coding)
        dataset.save_as(folder / f"1-{number:03d}.dcm", enforce_file_format=True)
        del dataset.PixelData
        headers.append(dataset)
    return headers


def make_series_folder(study_folder: Path, series_uid: str) -> Path:
    """Make the folder of a study's CT.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = study_folder / f"{CT_SERIES_NUMBER}.000000-NA-{series_uid[-5:]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stored_values(content: SyntheticScan) -> UInt16[np.ndarray, "slice row column"]:
    """Return a scan's voxels as files store them, little endian."""
    return (content.hu - RESCALE_INTERCEPT).astype("<u2")


def place_slices(content: SyntheticScan) -> Iterator[list[str]]:
    """Yield the position of each slice as headers write it, foot to head, in mm."""
    x_mm, y_mm, first_z_mm = content.first_voxel_mm
    for number in range(len(content.hu)):
        z_mm = first_z_mm + number * content.spacing_mm[0]
        yield [f"{place_mm:.3f}" for place_mm in (x_mm, y_mm, z_mm)]


def _store_pixels(
    dataset: Dataset, pixels: UInt16[np.ndarray, "row column"], coding: PixelCoding
) -> None:
    dataset.file_meta = FileMetaDataset()
    if coding == "plain":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = pixels.tobytes()
        return
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    stream = encode(
        pixels,
        bits_stored=_BITS_STORED,
        photometric_interpretation=_MONOCHROME,
        codec_format=_CODESTREAM,
    )
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"


def describe_series(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    demographics: Demographics,
) -> Dataset:
    """Return what every slice of a CT series has in common."""
    dataset = Dataset()
    describe_study(dataset, patient, scan, demographics)
    study_uid = str(dataset.StudyInstanceUID)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    for name in ("SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, name, f"{scan.study_date:%Y%m%d}")
    for name in ("SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, name, STUDY_TIME)
    dataset.Modality = "CT"
    dataset.SeriesDescription = CT_SERIES_DESCRIPTION
    dataset.KVP = "120"
    dataset.PatientPosition = "HFS"
    dataset.SeriesInstanceUID = make_uid("ct", study_uid)
    dataset.SeriesNumber = CT_SERIES_NUMBER
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = make_uid("frame", study_uid)
    dataset.PositionReferenceIndicator = ""
    _describe_pixels(dataset, content)
    return dataset


def _describe_pixels(dataset: Dataset, content: SyntheticScan) -> None:
    """Add the tags of the pixel grid and of its values."""
    slice_mm, row_mm, column_mm = content.spacing_mm
    dataset.SliceThickness = f"{slice_mm:g}"
    dataset.SpacingBetweenSlices = f"{slice_mm:g}"
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{row_mm:g}", f"{column_mm:g}"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = content.hu.shape[1:]
    dataset.BitsAllocated = 16
    dataset.BitsStored = _BITS_STORED
    dataset.HighBit = _BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"
    dataset.RescaleIntercept = str(RESCALE_INTERCEPT)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
