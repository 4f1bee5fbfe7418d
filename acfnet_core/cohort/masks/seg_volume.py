"""A DICOM SEG in other planes than its CT's: highdicom turns, cuts or pads it.

It is the way for files whose rows, columns or slices run otherwise, or that hold a part
of the image alone; `seg_frames` reads the others, and tilted ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from jaxtyping import Bool

from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesGeometry

_GEOMETRY_TOLERANCE = 1e-3
_PLACE_TOLERANCE = 0.02
_FRACTION_INSIDE = 0.5


def read_seg_volume(
    path: Path, series: SeriesGeometry, channels: Mapping[int, str]
) -> dict[str, Bool[np.ndarray, "slice row column"]]:
    """Return the masks of channels; segments of one are joined, and may overlap.

    Args:
        path: The segmentation.
        series: Its CT.
        channels: Segment number -> channel, for the segments that are wanted.

    Raises:
        ScanRefusedError: The file's voxels are not the CT's, or the CT is tilted.
        Exception: Any of `READ_ERRORS`, where the file is broken.
    """
    if series.is_sheared:
        # A volume of highdicom's has right angles.
        raise ScanRefusedError("SEG_OFF_GRID")
    geometry = highdicom.VolumeGeometry(
        affine=series.affine,
        spatial_shape=series.shape,
        coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
        frame_of_reference_uid=series.frame_of_reference_uid,
    )
    file = highdicom.seg.segread(path)
    masks: dict[str, Bool[np.ndarray, "slice row column"]] = {}
    for number, channel in channels.items():
        mask = _read_segment(file, number, geometry)
        masks[channel] = masks[channel] | mask if channel in masks else mask
    return masks


def _read_segment(
    file: Any, number: int, geometry: Any
) -> Bool[np.ndarray, "slice row column"]:
    volume = file.get_volume(segment_numbers=[number], combine_segments=False)
    try:
        matched = volume.match_geometry(geometry, tol=_GEOMETRY_TOLERANCE)
    except RuntimeError:
        raise ScanRefusedError("SEG_OFF_GRID") from None
    mask = matched.array.reshape(geometry.spatial_shape) >= _FRACTION_INSIDE
    # match_geometry (highdicom 0.28) accepts another spacing without a word, and cuts
    # off what lies outside the CT: neither may pass for a match.
    is_same_place = np.allclose(matched.affine, geometry.affine, atol=_PLACE_TOLERANCE)
    is_whole = np.count_nonzero(mask) == np.count_nonzero(
        volume.array >= _FRACTION_INSIDE
    )
    if not (is_same_place and is_whole):
        raise ScanRefusedError("SEG_OFF_GRID")
    return mask
