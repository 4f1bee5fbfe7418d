"""The frames of a DICOM SEG, each laid on the slice of the CT whose voxels are its own.

This holds for straight stacks and for tilted ones, and no volume is built but the masks
that are asked for. Frames in other planes than the CT's are not placed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels

from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesGeometry

_PLACE_TOLERANCE_MM = 0.05
_DIRECTION_TOLERANCE = 1e-4
_SPACING_TOLERANCE_MM = 1e-3
_SAME_SPACING = 0.1
_SKIPPED_SLICES = 3


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A frame; `slot` is None beside the stack, `segment` 0 in a label map."""

    segment: int
    slot: int | None


class SegFrames:
    """A DICOM SEG whose frames have the planes of a CT.

    Raises:
        LookupError, and other errors of a broken file: see `READ_ERRORS`.
    """

    def __init__(self, path: Path, series: SeriesGeometry) -> None:
        self._file = dcmread(path)
        self._series = series
        self.segments: dict[int, str] = {
            int(item.SegmentNumber): str(item.get("SegmentLabel", ""))
            for item in self._file.SegmentSequence
        }
        """Number -> label."""
        self._frames = _place_frames(self._file, series)

    @property
    def has_planes_of_the_ct(self) -> bool:
        """Whether every frame's rows and columns are those of the CT's slices."""
        return self._frames is not None

    def read(
        self, channels: Mapping[int, str]
    ) -> dict[str, Bool[np.ndarray, "slice row column"]]:
        """Return the masks of channels; segments of one are joined, and may overlap.

        Args:
            channels: Segment number -> channel, for the segments that are wanted.

        Raises:
            ScanRefusedError: Something is drawn beside the CT's slices.
            ValueError: The frames have other planes.
        """
        if self._frames is None:
            raise ValueError("the frames have other planes than the CT")
        masks = {
            channel: np.zeros(self._series.shape, np.bool_)
            for channel in channels.values()
        }
        is_label_map = str(self._file.get("SegmentationType", "")) == "LABELMAP"
        highest = int(self._file.get("MaximumFractionalValue", 1) or 1)
        # A whole number: compared with a half, every frame would be made floating.
        half = (highest + 1) // 2
        wanted = [
            index
            for index, frame in enumerate(self._frames)
            if is_label_map or frame.segment in channels
        ]
        for index, stored in zip(
            wanted, iter_pixels(self._file, indices=wanted), strict=True
        ):
            frame = self._frames[index]
            for segment in channels if is_label_map else (frame.segment,):
                drawn = stored == segment if is_label_map else stored >= half
                if frame.slot is not None:
                    masks[channels[segment]][frame.slot] |= drawn
                elif drawn.any():
                    raise ScanRefusedError("SEG_OFF_GRID")
        return masks


def _place_frames(file: Dataset, series: SeriesGeometry) -> list[_Frame] | None:
    """Return the frames in their order; None if a plane is not the CT's."""
    if (int(file.Rows), int(file.Columns)) != series.shape[1:]:
        return None
    to_index = np.linalg.inv(series.affine)
    shared = file.SharedFunctionalGroupsSequence[0]
    if not _is_same_plane(shared, series):
        return None
    frames = []
    for item in file.PerFrameFunctionalGroupsSequence:
        if not _is_same_plane(item, series):
            return None
        (position,) = _group(shared, item, "PlanePositionSequence")
        place = np.array([*map(float, position.ImagePositionPatient), 1.0])
        segment = 0
        for named in _group(shared, item, "SegmentIdentificationSequence"):
            segment = int(named.ReferencedSegmentNumber)
        slot = _slot_of((to_index @ place)[:3], series)
        frames.append(_Frame(segment=segment, slot=slot))
    return None if _skips_slices(frames) else frames


def _skips_slices(frames: Sequence[_Frame]) -> bool:
    """Tell whether frames lie on every second or third slice: they are thicker."""
    slots = sorted({frame.slot for frame in frames if frame.slot is not None})
    return len(slots) >= _SKIPPED_SLICES and gcd(*np.diff(slots).tolist()) > 1


def _group(shared: Dataset, item: Dataset, name: str) -> Any:
    """Return the items of a functional group, which a frame has by itself or shares."""
    return item.get(name) or shared.get(name) or ()


def _is_same_plane(groups: Dataset, series: SeriesGeometry) -> bool:
    """Tell whether what these groups say of a plane is what the CT's slices have."""
    in_plane = series.affine[:3, 1:3] / np.array(series.spacing_mm[1:])
    for orientation in groups.get("PlaneOrientationSequence") or ():
        cosines = np.array([*map(float, orientation.ImageOrientationPatient)])
        # DICOM gives first the direction in which the column index grows.
        own = np.concatenate([in_plane[:, 1], in_plane[:, 0]])
        if not np.allclose(cosines, own, rtol=0, atol=_DIRECTION_TOLERANCE):
            return False
    for measures in groups.get("PixelMeasuresSequence") or ():
        spacing = np.array([*map(float, measures.PixelSpacing)])
        if not np.allclose(
            spacing, series.spacing_mm[1:], rtol=0, atol=_SPACING_TOLERANCE_MM
        ):
            return False
        between = measures.get("SpacingBetweenSlices")
        if between and abs(float(between) / series.spacing_mm[0] - 1) > _SAME_SPACING:
            return False
    return True


def _slot_of(index: Float[np.ndarray, "3"], series: SeriesGeometry) -> int | None:
    slot = int(np.rint(index[0]))
    off_mm = (index - [slot, 0, 0]) * np.array(series.spacing_mm)
    is_there = (
        np.abs(off_mm).max() <= _PLACE_TOLERANCE_MM and 0 <= slot < series.shape[0]
    )
    return slot if is_there else None
