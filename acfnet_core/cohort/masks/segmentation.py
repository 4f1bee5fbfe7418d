"""Masks from DICOM SEG, RTSTRUCT or NIfTI, voxel on voxel over their CT.

`CHOICE_RULE` says which is taken when several segmentations fit one series. A DICOM
file fits a series of the same patient and frame of reference, and must name this series
if it names any; a NIfTI mask fits by its folder, see `nifti_mask`.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import (
    DicomIndex,
    InstanceHeader,
    quiet_dicom,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesGeometry
from acfnet_core.cohort.masks.lost_slices import fill_lost_slices
from acfnet_core.cohort.masks.nifti_mask import (
    NiftiLabels,
    NiftiMask,
    place_masks,
    read_nifti_mask,
)
from acfnet_core.cohort.masks.rtstruct import read_structures
from acfnet_core.cohort.masks.seg_frames import SegFrames
from acfnet_core.cohort.masks.seg_volume import read_seg_volume
from acfnet_core.cohort.masks.segment_counts import SEGMENT_ERRORS
from acfnet_core.cohort.spool import SpooledList

SegmentationFile = InstanceHeader | NiftiMask
SegmentationKind = Literal["DICOM SEG", "RTSTRUCT", "NIfTI"]
_KINDS: tuple[SegmentationKind, ...] = ("DICOM SEG", "RTSTRUCT", "NIfTI")
CHOICE_RULE = (
    "of several segmentations of a series, a DICOM SEG with a liver is taken before an "
    "RTSTRUCT with one, and that before a NIfTI mask with one; of one format, that of "
    "the contract's preferred SeriesDescription, then that of the lowest instance UID"
)

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


def segmentations_of(
    index: DicomIndex, nifti_labels: NiftiLabels
) -> SpooledList[SegmentationFile]:
    """Return every segmentation of an index, to be found by their patients.

    Args:
        index: Of the site's images.
        nifti_labels: What the values in the site's NIfTI masks mean.
    """
    drawn: SpooledList[SegmentationFile] = index.spool.new_list()
    files: tuple[Iterable[SegmentationFile], ...] = (
        index.segmentations,
        place_masks(index, nifti_labels),
    )
    for one in chain.from_iterable(files):
        drawn.append(one, keys=patients_of(one))
    return drawn


def kind_of(segmentation: SegmentationFile) -> SegmentationKind:
    """Return the format of a segmentation."""
    if isinstance(segmentation, NiftiMask):
        return "NIfTI"
    return "RTSTRUCT" if segmentation.modality == "RTSTRUCT" else "DICOM SEG"


def patients_of(segmentation: SegmentationFile) -> tuple[str, ...]:
    """Return the patients to whom a segmentation may belong: one, if all is well."""
    if isinstance(segmentation, NiftiMask):
        return segmentation.patient_ids
    return (segmentation.patient_id,)


def choose_segmentation(
    series: GatedSeries,
    segmentations: Sequence[SegmentationFile],
    imaging: ImagingExpectations,
) -> SegmentationFile:
    """Choose the segmentation of an accepted series by `CHOICE_RULE`.

    Raises:
        ScanRefusedError: None fits.
    """
    first = series.headers[0]
    dicom = [one for one in segmentations if isinstance(one, InstanceHeader)]
    named = [header for header in dicom if _names(header, first)]
    frame = first.frame_of_reference_uid
    fitting = [one for one in named if one.frame_of_reference_uid == frame]
    drawn = [one for one in fitting if _has_liver(one, imaging)]
    masks = [
        one
        for one in segmentations
        if isinstance(one, NiftiMask) and first.series_uid in one.series_uids
    ]
    if masks and not drawn:
        mask = _only_mask(masks)
        if "GANTRY_TILT" in series.repaired:
            # SimpleITK reads NIfTI with axes at right angles alone.
            raise ScanRefusedError("NIFTI_TILTED")
        if not fitting or _has_liver(mask, imaging):
            return mask
    if not fitting:
        raise ScanRefusedError("SEG_WRONG_FRAME" if named else "NO_SEGMENTATION")
    preferred = imaging.preferred_segmentation.casefold()
    kind = min((kind_of(one) for one in drawn or fitting), key=_KINDS.index)
    return min(
        (header for header in fitting if kind_of(header) == kind),
        key=lambda header: (
            header.series_description.casefold() != preferred,
            not _has_liver(header, imaging),
            header.sop_instance_uid,
        ),
    )


def read_segmentation(
    segmentation: SegmentationFile, series: SeriesGeometry, imaging: ImagingExpectations
) -> Masks:
    """Read the contract's channels of a segmentation on the voxels of its CT.

    Segments may overlap. A channel is absent from the result when the file has no
    segment for it, and empty when the file has one that is empty.

    Raises:
        ScanRefusedError: The file cannot be read, has no liver, or does not lie
            on the CT.
    """
    if isinstance(segmentation, InstanceHeader) and (
        segmentation.frame_of_reference_uid != series.frame_of_reference_uid
    ):
        raise ScanRefusedError("SEG_WRONG_FRAME")
    if not _has_liver(segmentation, imaging):
        raise ScanRefusedError("SEG_NO_LIVER")
    if isinstance(segmentation, NiftiMask):
        masks = _join(read_nifti_mask(segmentation, series), imaging)
    elif segmentation.modality == "RTSTRUCT":
        structures = read_structures(
            segmentation, series, lambda name: channel_of(name, imaging) is not None
        )
        masks = _join(structures, imaging)
    else:
        masks = _read_dicom_seg(segmentation.path, series, imaging)
    masks = {name: fill_lost_slices(m, series) for name, m in masks.items()}
    liver = masks.get("liver")
    if liver is None or not liver.any():
        raise ScanRefusedError("SEG_NO_LIVER")
    if kind_of(segmentation) == "RTSTRUCT":
        _refuse_gaps(liver)
    return masks


def _names(header: InstanceHeader, first: InstanceHeader) -> bool:
    """Tell whether a segmentation names a series, given by its first slice."""
    if header.patient_id != first.patient_id:
        return False
    if header.referenced_series:
        return first.series_uid in header.referenced_series
    return header.study_uid == first.study_uid


def _only_mask(masks: Sequence[NiftiMask]) -> NiftiMask:
    mask = masks[0]
    if len(masks) > 1 or len(mask.series_uids) > 1 or not mask.is_alone:
        raise ScanRefusedError("NIFTI_AMBIGUOUS")
    if not mask.labels:
        raise ScanRefusedError("NIFTI_NO_LABELS")
    return mask


def _join(
    segments: Iterable[tuple[str, Bool[np.ndarray, "slice row column"]]],
    imaging: ImagingExpectations,
) -> Masks:
    """Join segments to channels; the memory is that of one, however many there are."""
    masks: Masks = {}
    for label, mask in segments:
        channel = channel_of(label, imaging)
        if channel is not None:
            masks[channel] = masks[channel] | mask if channel in masks else mask
    return masks


def _refuse_gaps(liver: Bool[np.ndarray, "slice row column"]) -> None:
    """Refuse a liver with a gap: it is of one piece, so a slice was not drawn."""
    drawn_on = np.flatnonzero(liver.any(axis=(1, 2)))
    if np.ptp(drawn_on) + 1 > drawn_on.size:
        raise ScanRefusedError("RT_SLICES_SKIPPED")


def _read_dicom_seg(
    path: Path, series: SeriesGeometry, imaging: ImagingExpectations
) -> Masks:
    with quiet_dicom():
        try:
            frames = SegFrames(path, series)
            channels = {
                number: channel
                for number, label in frames.segments.items()
                if (channel := channel_of(label, imaging)) is not None
            }
            if frames.has_planes_of_the_ct:
                return frames.read(channels)
            return read_seg_volume(path, series, channels)
        except ScanRefusedError:
            raise
        except SEGMENT_ERRORS:
            # The error's text may hold values of the header: it must not be chained.
            raise ScanRefusedError("SEG_UNREADABLE") from None


def _has_liver(segmentation: SegmentationFile, imaging: ImagingExpectations) -> bool:
    labels = segmentation.segment_labels
    return any(channel_of(label, imaging) == "liver" for label in labels)


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").split()).casefold()
