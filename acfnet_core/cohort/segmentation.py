"""Masks from DICOM SEG, laid voxel on voxel over the CT they were drawn on.

The rule for choosing, when several segmentations fit one series: those whose
SeriesDescription is the contract's preferred one come first, then those with a liver,
then the lowest SOP instance UID. A segmentation fits a series of the same patient and
frame of reference, and must name this series if it names any.
"""

from collections.abc import Sequence
from typing import Any

import highdicom
import numpy as np
from jaxtyping import Bool

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.dicom_gate import GatedSeries
from acfnet_core.cohort.dicom_index import READ_ERRORS, InstanceHeader, quiet_dicom
from acfnet_core.cohort.refusals import ScanRefusedError
from acfnet_core.cohort.volume import SeriesVolume

_GEOMETRY_TOLERANCE = 1e-3
_PLACE_TOLERANCE = 0.02
_FRACTION_INSIDE = 0.5

Masks = dict[str, Bool[np.ndarray, "slice row column"]]


def channel_of(label: str, imaging: ImagingExpectations) -> str | None:
    """Return the channel that a segment's label belongs to, or None.

    Args:
        label: As the file has it; case, spaces and underscores do not matter.
        imaging: Its `segments` give each channel's labels.
    """
    wanted = _plain(label)
    for channel, names in imaging.segments.items():
        for name in map(_plain, names):
            is_prefix = name.endswith("*") and wanted.startswith(name[:-1])
            if wanted == name or is_prefix:
                return channel
    return None


def choose_segmentation(
    series: GatedSeries,
    segmentations: Sequence[InstanceHeader],
    imaging: ImagingExpectations,
) -> InstanceHeader:
    """Choose the segmentation of an accepted series by the rule stated above.

    Raises:
        ScanRefusedError: None fits.
    """
    first = series.headers[0]
    named = [
        header
        for header in segmentations
        if header.patient_id == first.patient_id
        and (
            first.series_uid in header.referenced_series
            or (not header.referenced_series and header.study_uid == first.study_uid)
        )
    ]
    fitting = [
        header
        for header in named
        if header.frame_of_reference_uid == first.frame_of_reference_uid
    ]
    if not fitting:
        raise ScanRefusedError("SEG_WRONG_FRAME" if named else "NO_SEGMENTATION")
    preferred = imaging.preferred_segmentation.casefold()
    return min(
        fitting,
        key=lambda header: (
            header.series_description.casefold() != preferred,
            "liver" not in _channels_in(header, imaging),
            header.sop_instance_uid,
        ),
    )


def read_segmentation(
    header: InstanceHeader, series: SeriesVolume, imaging: ImagingExpectations
) -> Masks:
    """Read the contract's channels of a segmentation on the voxels of its CT.

    Segments may overlap. A channel is absent from the result when the file has no
    segment for it, and empty when the file has one that is empty.

    Raises:
        ScanRefusedError: The file cannot be read, has no liver, or does not lie
            on the CT.
    """
    if header.frame_of_reference_uid != series.frame_of_reference_uid:
        raise ScanRefusedError("SEG_WRONG_FRAME")
    if "liver" not in _channels_in(header, imaging):
        raise ScanRefusedError("SEG_NO_LIVER")
    geometry = highdicom.VolumeGeometry(
        affine=series.affine,
        spatial_shape=series.hu.shape,
        coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
        frame_of_reference_uid=series.frame_of_reference_uid,
    )
    with quiet_dicom():
        masks = _read_masks(header, geometry, imaging)
    if not masks["liver"].any():
        raise ScanRefusedError("SEG_NO_LIVER")
    return masks


def _read_masks(
    header: InstanceHeader, geometry: Any, imaging: ImagingExpectations
) -> Masks:
    """Read segment by segment: the memory is that of one, however many there are."""
    masks: Masks = {}
    try:
        file = highdicom.seg.segread(header.path)
        for number in file.segment_numbers:
            description = file.get_segment_description(number)
            channel = channel_of(str(description.segment_label), imaging)
            if channel is None:
                continue
            mask = masks.setdefault(channel, np.zeros(geometry.spatial_shape, np.bool_))
            mask |= _read_segment(file, number, geometry)
    except ScanRefusedError:
        raise
    except READ_ERRORS:
        # The error's text may hold values of the header: it must not be chained.
        raise ScanRefusedError("SEG_UNREADABLE") from None
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


def _channels_in(header: InstanceHeader, imaging: ImagingExpectations) -> set[str]:
    found = (channel_of(label, imaging) for label in header.segment_labels)
    return {channel for channel in found if channel is not None}


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").split()).casefold()
