"""What an RTSTRUCT says of itself: its structures, and what they were drawn on."""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

HEADER_TAGS = ("ReferencedFrameOfReferenceSequence", "StructureSetROISequence")
"""What the functions here need of a file."""


def names_of_structures(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the structures, in the order of the file."""
    rois = _items(dataset, "StructureSetROISequence")
    return tuple(_text(roi, "ROIName") for roi in rois)


def series_of_structures(dataset: Dataset) -> tuple[str, ...]:
    """Return the UIDs of the series that the structures were drawn on."""
    return tuple(
        _text(series, "SeriesInstanceUID")
        for frame in _items(dataset, "ReferencedFrameOfReferenceSequence")
        for study in _items(frame, "RTReferencedStudySequence")
        for series in _items(study, "RTReferencedSeriesSequence")
    )


def frame_of_structures(dataset: Dataset) -> str:
    """Return the one frame of reference of all structures, "" if there is not one."""
    frames = {
        _text(item, "FrameOfReferenceUID")
        for item in _items(dataset, "ReferencedFrameOfReferenceSequence")
    } | {
        _text(roi, "ReferencedFrameOfReferenceUID")
        for roi in _items(dataset, "StructureSetROISequence")
    }
    frames.discard("")
    frames = frames or {_text(dataset, "FrameOfReferenceUID")}
    return frames.pop() if len(frames) == 1 else ""


def _items(dataset: Any, name: str) -> Iterator[Any]:
    yield from dataset.get(name, None) or ()


def _text(dataset: Any, name: str) -> str:
    return str(dataset.get(name, "") or "").strip()
