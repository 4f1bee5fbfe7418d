"""A world whose value is known at every place, and CT slices cut out of it.

In the world a plane of values rises in every direction, and a ball is brighter; a value
read somewhere tells whether it belongs there.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage
from references.ct_series import uid_of

NUM_SLICES, NUM_ROWS, NUM_COLUMNS = 10, 32, 36
SPACING_MM = (4.0, 2.0, 3.0)
HEIGHTS_MM = tuple(4.0 * index for index in range(NUM_SLICES))
ORIGIN_MM = (-30.0, -40.0, 100.0)
SLOPE_HU_PER_MM = (3.0, 2.0, 4.0)
BALL_MM = (0.0, -20.0, 120.0)
BALL_RADIUS_MM = 9.0
BALL_HU = 300.0
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

Places = npt.NDArray[np.float64]
Direction = tuple[float, float, float]


def hu_at(places_mm: Places) -> Places:
    """Return the world's value at places (x, y, z)."""
    plane = places_mm @ np.array(SLOPE_HU_PER_MM)
    return np.asarray(plane + BALL_HU * is_in_ball(places_mm))


def is_in_ball(places_mm: Places, margin_mm: float = 0.0) -> npt.NDArray[np.bool_]:
    """Tell which places lie in the ball, or within a margin around it."""
    distance = np.linalg.norm(places_mm - np.array(BALL_MM), axis=-1)
    return np.asarray(distance < BALL_RADIUS_MM + margin_mm)


@dataclass(kw_only=True)
class Slice:
    """One slice: what stands in its file, and what is true of it.

    A test changes the dataset; the rest says where the slice lies and what it shows.
    """

    position: Places
    row: Places
    column: Places
    pixel_spacing: tuple[float, float]
    hu: Places
    dataset: Dataset = field(default_factory=Dataset)

    @property
    def corners(self) -> Places:
        """First voxel, last of the first row, last of the first column (mm)."""
        between_rows, between_columns = self.pixel_spacing
        across = self.row * between_columns * (self.hu.shape[1] - 1)
        down = self.column * between_rows * (self.hu.shape[0] - 1)
        return np.stack([self.position, self.position + across, self.position + down])


def cut_slices(
    *,
    heights_mm: Sequence[float] = HEIGHTS_MM,
    directions: tuple[Direction, Direction] = AXIAL,
    pixel_spacing: tuple[float, float] = SPACING_MM[1:],
    drift: Direction = (0.0, 0.0, 0.0),
    rescale: tuple[float, float] = (1.0, -1024.0),
    number: int = 0,
) -> list[Slice]:
    """Cut slices out of the world, from the lowest to the highest.

    Args:
        heights_mm: Along the normal, from the first slice's place.
        directions: Of a row (growing column index) and of a column.
        pixel_spacing: Between rows, between columns.
        drift: How far a slice lies sideways for each millimetre of height.
        rescale: Slope and intercept.
        number: Of the series.
    """
    row, column = (np.array(direction) for direction in directions)
    normal = np.cross(row, column) / np.linalg.norm(np.cross(row, column))
    slices = []
    for index, height in enumerate(heights_mm):
        position = np.array(ORIGIN_MM) + height * (normal + np.array(drift))
        # The world is seen at the places that the file's sixteen digits can tell.
        position = np.round(position, 6)
        down = np.arange(NUM_ROWS)[:, None, None] * pixel_spacing[0] * column
        across = np.arange(NUM_COLUMNS)[None, :, None] * pixel_spacing[1] * row
        stored = np.rint((hu_at(position + down + across) - rescale[1]) / rescale[0])
        one = Slice(
            position=position,
            row=row,
            column=column,
            pixel_spacing=pixel_spacing,
            hu=stored * rescale[0] + rescale[1],
        )
        one.dataset = _describe(one, index, number, rescale)
        store_pixels(one.dataset, stored.astype("<i2"))
        slices.append(one)
    return slices


def copy_slice(one: Slice, **changes: Any) -> Slice:
    """Return a copy with a dataset of its own."""
    return replace(one, dataset=copy.deepcopy(one.dataset), **changes)


def store_pixels(dataset: Dataset, stored: npt.NDArray[Any], *, bits: int = 16) -> None:
    """Put stored values into a dataset, uncompressed, in 16 bits each."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def stored_pixels(dataset: Dataset) -> npt.NDArray[np.int16]:
    """Return the stored values of an uncompressed, signed dataset."""
    return np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, -1)


def _describe(
    one: Slice, index: int, number: int, rescale: tuple[float, float]
) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = uid_of("edge", number, index)
    header.StudyInstanceUID = uid_of("edge study")
    header.SeriesInstanceUID = uid_of("edge series", number)
    header.FrameOfReferenceUID = uid_of("edge frame")
    header.PatientID, header.PatientName = "P-007", "Canary^Planted"
    header.PatientBirthDate = header.AccessionNumber = ""
    header.PatientSex, header.StudyID = "O", "1"
    header.StudyDate, header.StudyTime = "19920606", "120000"
    header.ReferringPhysicianName = header.Manufacturer = ""
    header.Modality, header.SeriesNumber = "CT", number + 1
    header.InstanceNumber, header.AcquisitionNumber = index + 1, 1
    header.PositionReferenceIndicator = ""
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.ImagePositionPatient = [f"{part:.6f}" for part in one.position]
    header.ImageOrientationPatient = [f"{part:.9g}" for part in (*one.row, *one.column)]
    header.PixelSpacing = list(one.pixel_spacing)
    header.SliceThickness = SPACING_MM[0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.RescaleSlope, header.RescaleIntercept = rescale
    header.RescaleType = "HU"
    return header


def to_enhanced(
    slices: Sequence[Slice], change: Callable[[Any], None] = lambda file: None
) -> Dataset:
    """Return the slices as the frames of one Enhanced CT image, in their order."""
    first = slices[0].dataset
    file = copy.deepcopy(first)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(file, name)
    for name in ("SliceThickness", "RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(file, name)
    file.SOPClassUID = EnhancedCTImageStorage
    file.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    file.NumberOfFrames, file.InstanceNumber = len(slices), 1
    file.VolumetricProperties, file.VolumeBasedCalculationTechnique = "VOLUME", "NONE"
    file.PixelPresentation, file.BurnedInAnnotation = "MONOCHROME", "NO"
    file.LossyImageCompression, file.PresentationLUTShape = "00", "IDENTITY"
    file.ContentDate, file.ContentTime = first.StudyDate, first.StudyTime
    file.AcquisitionDateTime = first.StudyDate + "120000"
    shared = Dataset()
    shared.PlaneOrientationSequence = [
        _take(first, ImageOrientationPatient="ImageOrientationPatient")
    ]
    shared.PixelMeasuresSequence = [
        _take(first, PixelSpacing="PixelSpacing", SliceThickness="SliceThickness")
    ]
    file.SharedFunctionalGroupsSequence = [shared]
    file.PerFrameFunctionalGroupsSequence = [
        _frame_group(one.dataset, number) for number, one in enumerate(slices, 1)
    ]
    file.PixelData = b"".join(one.dataset.PixelData for one in slices)
    file["PixelData"].VR = "OW"
    change(file)
    return file


def _frame_group(header: Dataset, number: int) -> Dataset:
    group, content = Dataset(), Dataset()
    content.FrameAcquisitionNumber = 1
    content.StackID, content.InStackPositionNumber = "1", number
    content.DimensionIndexValues = [1, number]
    group.FrameContentSequence = [content]
    group.PlanePositionSequence = [
        _take(header, ImagePositionPatient="ImagePositionPatient")
    ]
    group.PixelValueTransformationSequence = [
        _take(
            header,
            RescaleSlope="RescaleSlope",
            RescaleIntercept="RescaleIntercept",
            RescaleType="RescaleType",
        )
    ]
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    kind.PixelPresentation, kind.VolumetricProperties = "MONOCHROME", "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    group.CTImageFrameTypeSequence = [kind]
    return group


def _take(header: Dataset, **names: str) -> Dataset:
    item = Dataset()
    for name, source in names.items():
        if source in header:
            setattr(item, name, header[source].value)
    return item
