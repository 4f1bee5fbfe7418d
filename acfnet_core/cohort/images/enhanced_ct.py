"""Enhanced multi-frame CT: each frame of a file told as the header of a plain CT image.

What a plain CT image says of itself stands here in functional groups, either shared by
all frames or a frame's own. Told as plain headers, frames pass the same gate as files.
A file is told so only if its frames are one stack at one time; no value of the file's
top level stands in for one that the groups lack.
"""

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset

ENHANCED_CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
"""Source: DICOM PS3.4 B.5, Enhanced CT Image Storage."""

_SHARED = "SharedFunctionalGroupsSequence"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_PART_OF = ("ConcatenationUID", "InConcatenationTotalNumber")
GROUP_TAGS = ("NumberOfFrames", _SHARED, _PER_FRAME, *_PART_OF)
"""What `plain_frames` needs of a file, beside what its result is to hold."""

_MOST_FRAMES = 8192
_MACROS: dict[str, dict[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {
        "PixelSpacing": "PixelSpacing",
        "SliceThickness": "SliceThickness",
    },
    "PixelValueTransformationSequence": {
        "RescaleIntercept": "RescaleIntercept",
        "RescaleSlope": "RescaleSlope",
        "RescaleType": "RescaleType",
    },
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
}
"""Functional group -> its attribute -> the plain image's attribute.

Source: DICOM PS3.3 C.7.6.16.2 and C.8.15.3.
"""

_NOT_FROM_THE_TOP = {
    *(plain for names in _MACROS.values() for plain in names.values()),
    *GROUP_TAGS,
    "InstanceNumber",
    "PixelData",
}


def plain_frames(dataset: Dataset) -> tuple[Dataset, ...]:
    """Return each frame's header as that of a plain CT image, in the file's order.

    The class, the UIDs and what else all frames share stay as the file has them; the
    elements are the dataset's own. The instance number is the frame's, from 1.

    Args:
        dataset: An Enhanced CT image, with or without its pixels.

    Returns:
        Nothing if the frames are not one stack at one time: several stacks or temporal
        positions, part of a concatenation, or not as many frames as are described.

    Raises:
        Exception: Any of `dicom_index.READ_ERRORS`, of a group that is damaged.
    """
    groups = dataset.get(_PER_FRAME, None) or ()
    if not _is_one_stack(dataset, groups):
        return ()
    shared = _first(dataset, _SHARED)
    base = Dataset()
    for element in dataset:
        if element.keyword not in _NOT_FROM_THE_TOP:
            base.add(element)
    return tuple(
        _plain_header(base, group, shared, number)
        for number, group in enumerate(groups, start=1)
    )


def _is_one_stack(dataset: Dataset, groups: Sequence[Dataset]) -> bool:
    declared = int(dataset.get("NumberOfFrames", None) or 0)
    if not 0 < declared == len(groups) <= _MOST_FRAMES:
        return False
    if any(dataset.get(name) not in (None, "", 1) for name in _PART_OF):
        return False
    contents = [_first(group, "FrameContentSequence") for group in groups]
    stacks = {str(content.get("StackID", "") or "") for content in contents}
    times = {content.get("TemporalPositionIndex") for content in contents}
    return len(stacks) == len(times) == 1


def _plain_header(base: Dataset, group: Dataset, shared: Dataset, number: int) -> Any:
    header = Dataset()
    header.update(base)
    header.InstanceNumber = number
    for macro, names in _MACROS.items():
        # A macro stands whole in one place or in the other.
        item = _first(group if macro in group else shared, macro)
        for name, plain in names.items():
            if name in item:
                setattr(header, plain, item[name].value)
    return header


def _first(dataset: Dataset, name: str) -> Dataset:
    """Return the one item of a sequence, empty if there is none."""
    items = list(dataset.get(name, None) or ())
    return items[0] if len(items) == 1 else Dataset()
