"""Writing a made-up scan's masks as DICOM SEG: one, or three that compete."""

from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
from jaxtyping import Bool
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.image import Masks
from acfnet_core.cohort.synthetic.study_header import MANUFACTURER, STUDY_TIME

SEG_SERIES_DESCRIPTION = "Segmentation"
SEG_SERIES_NUMBER = 300
RIVAL_DESCRIPTIONS = ("AIMI CRLM AI", "AIMI CRLM corrected")
"""Of the two further segmentations that the public cohort has of every patient."""


def write_segmentations(
    slices: list[Dataset], masks: Masks, study_folder: Path, *, has_rivals: bool
) -> None:
    """Write the masks as DICOM SEG over the slices that hold liver.

    Args:
        slices: Headers of the CT, foot to head, or the one header of all frames.
        masks: On the CT's voxels.
        study_folder: Gets a folder for each SEG.
        has_rivals: Whether two worse segmentations lie beside it: a liver that is a
            voxel too large, and one a voxel too small, both without tumours.

    Raises:
        OSError: The folder cannot be written.
    """
    _write_one(slices, masks, study_folder, SEG_SERIES_DESCRIPTION, number=0)
    if has_rivals:
        liver = masks["Liver"]
        for number, (description, grown) in enumerate(
            zip(
                RIVAL_DESCRIPTIONS,
                (ndimage.binary_dilation(liver), ndimage.binary_erosion(liver)),
                strict=True,
            ),
            start=1,
        ):
            _write_one(
                slices, {"Liver": grown}, study_folder, description, number=number
            )


def _write_one(
    slices: list[Dataset],
    masks: Masks,
    study_folder: Path,
    description: str,
    *,
    number: int,
) -> None:
    first = slices[0]
    study_uid = str(first.StudyInstanceUID)
    series_uid = make_uid("seg", study_uid, *((number,) if number else ()))
    has_any = np.any([mask.any(axis=(1, 2)) for mask in masks.values()], axis=0)
    low, high = np.flatnonzero(has_any)[[0, -1]]
    covered = slice(int(low), int(high) + 1)
    if "NumberOfFrames" in first:
        # All frames are one source; those without a segment are left out below.
        covered = slice(None)
    pixels = np.stack([mask[covered] for mask in masks.values()], axis=-1)
    segmentation = highdicom.seg.Segmentation(
        source_images=slices[covered],
        pixel_array=pixels.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=list(_describe_segments(masks)),
        series_instance_uid=series_uid,
        series_number=SEG_SERIES_NUMBER + number,
        sop_instance_uid=make_uid("instance", series_uid),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="acfnet_core.cohort.synthetic.sites",
        software_versions="1",
        device_serial_number="0",
        content_label="SYNTHETIC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=description,
        omit_empty_frames=True,
    )
    _fix_clock_and_chance(
        segmentation, str(first.StudyDate), make_uid("dimension", series_uid)
    )
    folder = study_folder / (
        f"{SEG_SERIES_NUMBER + number}.000000-{description}-{series_uid[-5:]}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(folder / "1-1.dcm")


def _describe_segments(
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
) -> Iterator[highdicom.seg.SegmentDescription]:
    """Yield a description with a standard code for every segment."""
    kinds = {
        "Liver": codes.SCT.Liver,
        "Liver Remnant": codes.SCT.Liver,
        "Hepatic": codes.SCT.HepaticVein,
        "Portal": codes.SCT.PortalVein,
    }
    for number, label in enumerate(masks, start=1):
        is_organ = label in kinds
        yield highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=(
                codes.SCT.AnatomicalStructure
                if is_organ
                else codes.SCT.MorphologicallyAbnormalStructure
            ),
            segmented_property_type=kinds.get(label, codes.SCT.Mass),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )


def _fix_clock_and_chance(segmentation: Dataset, day: str, dimension_uid: str) -> None:
    """Replace the times and the random identifier that highdicom 0.28 puts in."""
    for element in segmentation:
        if element.VR == "DA" and element.value:
            element.value = day
        if element.VR == "TM" and element.value:
            element.value = STUDY_TIME
    for item in segmentation.ContributingEquipmentSequence:
        item.ContributionDateTime = day + STUDY_TIME
    for sequence in (
        segmentation.DimensionOrganizationSequence,
        segmentation.DimensionIndexSequence,
    ):
        _set_dimension_uid(sequence, dimension_uid)


def _set_dimension_uid(sequence: DicomSequence, uid: str) -> None:
    """Set the identifier of the dimension organisation in every item."""
    for item in sequence:
        item.DimensionOrganizationUID = uid
