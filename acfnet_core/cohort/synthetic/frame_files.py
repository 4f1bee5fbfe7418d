"""Writing a made-up scan as one enhanced multi-frame CT file.

What a plain slice says of itself stands here in functional groups: shared by all frames
where it is the same for all, and a frame's own where it is not.
"""

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from acfnet_core.cohort.synthetic.ct_files import (
    describe_series,
    make_series_folder,
    place_slices,
    stored_values,
)
from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.image import SyntheticScan
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient
from acfnet_core.cohort.synthetic.study_header import STUDY_TIME, Demographics

_FRAME_TYPE = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
_SHARED_GROUPS = {
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": (
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
    ),
}
_DIMENSIONS = (
    (0x00209056, "Stack ID"),
    (0x00209057, "In-Stack Position Number"),
)
_FRAME_CONTENT = 0x00209111
_STACK = "1"


def write_frames(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    study_folder: Path,
    *,
    demographics: Demographics,
) -> Dataset:
    """Write the slices as frames, foot to head, and return the header without pixels.

    Raises:
        OSError: The folder cannot be written.
    """
    file = describe_series(patient, scan, content, demographics)
    series_uid = str(file.SeriesInstanceUID)
    file.SharedFunctionalGroupsSequence = [_share(file)]
    file.PerFrameFunctionalGroupsSequence = list(_describe_frames(content))
    del file.SpacingBetweenSlices
    _describe_file(file, len(content.hu), series_uid)
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.PixelData = stored_values(content).tobytes()
    folder = make_series_folder(study_folder, series_uid)
    file.save_as(folder / "1-001.dcm", enforce_file_format=True)
    del file.PixelData
    return file


def _share(file: Dataset) -> Dataset:
    """Move what all frames have in common from the top level into a group."""
    shared = Dataset()
    for group, names in _SHARED_GROUPS.items():
        item = Dataset()
        for name in names:
            item[name] = file[name]
            del file[name]
        setattr(shared, group, [item])
    kind = Dataset()
    kind.FrameType = _FRAME_TYPE
    kind.PixelPresentation = "MONOCHROME"
    kind.VolumetricProperties = "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    shared.CTImageFrameTypeSequence = [kind]
    return shared


def _describe_frames(content: SyntheticScan) -> Iterator[Dataset]:
    """Yield each frame's own group: its number and its place."""
    for number, position in enumerate(place_slices(content), start=1):
        frame, place, group = Dataset(), Dataset(), Dataset()
        frame.FrameAcquisitionNumber = 1
        frame.StackID, frame.InStackPositionNumber = _STACK, number
        frame.DimensionIndexValues = [1, number]
        place.ImagePositionPatient = position
        group.FrameContentSequence = [frame]
        group.PlanePositionSequence = [place]
        yield group


def _describe_file(file: Dataset, num_frames: int, series_uid: str) -> None:
    """Make the header that of an enhanced CT image."""
    file.SOPClassUID = EnhancedCTImageStorage
    file.SOPInstanceUID = make_uid("frames", series_uid)
    file.InstanceNumber = 1
    file.NumberOfFrames = num_frames
    file.ImageType = _FRAME_TYPE
    file.PixelPresentation = "MONOCHROME"
    file.VolumetricProperties = "VOLUME"
    file.VolumeBasedCalculationTechnique = "NONE"
    file.PresentationLUTShape = "IDENTITY"
    file.LossyImageCompression = "00"
    file.AcquisitionDateTime = f"{file.AcquisitionDate}{STUDY_TIME}"
    organisation = Dataset()
    organisation.DimensionOrganizationUID = make_uid("dimension", series_uid)
    file.DimensionOrganizationSequence = [organisation]
    file.DimensionIndexSequence = []
    for pointer, label in _DIMENSIONS:
        index = Dataset()
        index.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = _FRAME_CONTENT
        index.DimensionDescriptionLabel = label
        file.DimensionIndexSequence.append(index)
