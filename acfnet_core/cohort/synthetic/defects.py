"""The catalogue of seeded defects: what is done, and what it must be found as."""

from dataclasses import dataclass
from typing import Literal

from acfnet_core.cohort.synthetic import mask_defects, slice_defects
from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.slice_defects import (
    Plant,
    in_all_slices,
    in_one_slice,
    setting,
)
from acfnet_core.cohort.synthetic.study_files import MaskFormat

Finder = Literal["check", "prepare"]
"""`data check` reads headers; what only pixels or masks show is found by `prepare`."""

_ANY: tuple[MaskFormat, ...] = ("DICOM SEG", "RTSTRUCT", "NIfTI")
_DICOM: tuple[MaskFormat, ...] = ("DICOM SEG", "RTSTRUCT")


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One kind of defect of one study.

    Attributes:
        plant: Changes the study's files.
        meaning: What was done, in plain words.
        series_codes: What the gate must find in the CT series.
        study_codes: Why the study must give no scan; empty where it still does.
        found_by: Which command must find it.
        num_ignored: Files that must be counted as no DICOM.
        num_broken: Files that must be counted as unreadable.
        num_strangers: Patients that must be counted as not in the table.
        formats: Sites whose masks have one of these formats can have it.
        needs_plain_pixels: Whether only uncompressed slices show it.
    """

    plant: Plant
    meaning: str
    series_codes: tuple[str, ...] = ()
    study_codes: tuple[str, ...] = ()
    found_by: Finder = "check"
    num_ignored: int = 0
    num_broken: int = 0
    num_strangers: int = 0
    formats: tuple[MaskFormat, ...] = _ANY
    needs_plain_pixels: bool = False


def _of_series(
    plant: Plant,
    meaning: str,
    *codes: str,
    num_broken: int = 0,
    num_strangers: int = 0,
) -> Defect:
    """Return a defect for which the gate refuses the series."""
    return Defect(
        plant=plant,
        meaning=meaning,
        series_codes=codes,
        study_codes=codes,
        num_broken=num_broken,
        num_strangers=num_strangers,
    )


def _of_masks(
    plant: Plant,
    meaning: str,
    code: str,
    *formats: MaskFormat,
    found_by: Finder = "prepare",
) -> Defect:
    """Return a defect for which the segmentation is refused."""
    return Defect(
        plant=plant,
        meaning=meaning,
        study_codes=(code,),
        found_by=found_by,
        formats=formats,
    )


_NO_UIDS = dict.fromkeys(
    (
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
    ),
    "",
)

DEFECTS: dict[str, Defect] = {
    "missing_slice": _of_series(
        slice_defects.lose_slice, "one slice was left out", "MISSING_SLICES"
    ),
    "duplicate_slice": _of_series(
        slice_defects.repeat_slice,
        "a slice is there twice, under two identifiers",
        "DUPLICATE_POSITIONS",
    ),
    "copied_file": Defect(
        plant=slice_defects.copy_file,
        meaning="a file is there twice; the series can be used",
        series_codes=("SAME_INSTANCE_TWICE",),
    ),
    "contradicting_files": _of_series(
        slice_defects.contradict_file,
        "two different files have one identifier",
        "INSTANCE_CONFLICT",
    ),
    "gantry_tilt": _of_series(
        slice_defects.tilt_gantry, "the gantry was tilted", "GANTRY_TILT"
    ),
    "mixed_patient": _of_series(
        in_one_slice(setting(PatientID=slice_defects.OTHER_PATIENT)),
        "one slice bears another patient's identifier",
        "MIXED_PATIENT",
        num_strangers=1,
    ),
    "localizer": _of_series(
        slice_defects.add_localizer,
        "a scout view is part of the series",
        "NOT_ORIGINAL_PRIMARY",
        "MIXED_ORIENTATION",
    ),
    "derived_images": _of_series(
        in_all_slices(setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])),
        "the images were reformatted",
        "NOT_ORIGINAL_PRIMARY",
    ),
    "truncated_file": Defect(
        plant=slice_defects.cut_pixels,
        meaning="half of a file was lost",
        series_codes=("TRUNCATED",),
        study_codes=("TRUNCATED",),
        needs_plain_pixels=True,
    ),
    "unreadable_file": _of_series(
        slice_defects.add_broken_file,
        "a file ends within its header",
        "BROKEN_NEIGHBOUR",
        num_broken=1,
    ),
    "empty_file": Defect(
        plant=slice_defects.add_empty_file,
        meaning="a file without content lies beside the series, which can be used",
        num_ignored=1,
    ),
    "lossy": _of_series(
        in_all_slices(setting(LossyImageCompression="01")),
        "the pixels were once compressed with loss",
        "LOSSY",
    ),
    "no_rescale": _of_series(
        in_one_slice(setting(RescaleSlope=None, RescaleIntercept=None)),
        "one slice does not say what its values mean",
        "NO_RESCALE",
    ),
    "no_position": _of_series(
        in_one_slice(setting(ImagePositionPatient=None)),
        "one slice does not say where it lies",
        "NO_IPP",
    ),
    "mixed_frame": _of_series(
        in_one_slice(setting(FrameOfReferenceUID=make_uid("another frame"))),
        "one slice lies in another frame of reference",
        "MIXED_FRAME_OF_REFERENCE",
    ),
    "mixed_pixel_spacing": _of_series(
        in_one_slice(setting(PixelSpacing=["2.9", "2.9"])),
        "one slice has another pixel spacing",
        "MIXED_PIXELSPACING",
        "NON_UNIFORM_SPACING",
    ),
    "mixed_size": Defect(
        plant=slice_defects.crop_slice,
        meaning="one slice has fewer rows",
        series_codes=("MIXED_SIZE",),
        study_codes=("MIXED_SIZE",),
        needs_plain_pixels=True,
    ),
    "empty_uids": _of_series(
        in_all_slices(setting(**_NO_UIDS)), "all identifiers are empty", "EMPTY_UID"
    ),
    "burned_in": _of_series(
        in_all_slices(setting(BurnedInAnnotation="YES")),
        "text is burned into the images",
        "BURNED_IN",
    ),
    "thick_slices": _of_series(
        slice_defects.thin_out, "slices lie too far apart", "THICK_SLICES"
    ),
    "uneven_slices": _of_series(
        slice_defects.lose_every_second_slice_above,
        "slices lie twice as far apart in the upper half",
        "NON_UNIFORM_SPACING",
    ),
    "two_slices": _of_series(
        slice_defects.keep_two_slices, "two slices are left", "TOO_FEW_SLICES"
    ),
    "no_study_date": Defect(
        plant=in_all_slices(setting(StudyDate="")),
        meaning="the study has no date",
        study_codes=("NO_STUDY_DATE",),
    ),
    "after_resection": Defect(
        plant=in_all_slices(setting(StudyDate="20010101")),
        meaning="the study was made years after the resection",
        study_codes=("SCAN_AFTER_RESECTION",),
    ),
    "no_segmentation": _of_masks(
        mask_defects.lose_masks,
        "the segmentation was left out",
        "NO_SEGMENTATION",
        *_ANY,
        found_by="check",
    ),
    "segmentation_in_other_frame": _of_masks(
        mask_defects.move_frame,
        "the segmentation lies in another frame of reference",
        "SEG_WRONG_FRAME",
        *_DICOM,
        found_by="check",
    ),
    "segmentation_without_liver": _of_masks(
        mask_defects.rename_liver, "no segment is called liver", "SEG_NO_LIVER", *_DICOM
    ),
    "segmentation_off_grid": _of_masks(
        mask_defects.move_off_grid,
        "the segmentation is shifted by a part of a voxel",
        "SEG_OFF_GRID",
        "DICOM SEG",
    ),
    "contours_off_slice": _of_masks(
        mask_defects.lift_contours,
        "the contours lie between slices",
        "RT_OFF_SLICE",
        "RTSTRUCT",
    ),
    "open_contours": _of_masks(
        mask_defects.open_contours,
        "the contours are open lines",
        "RT_NOT_CLOSED_PLANAR",
        "RTSTRUCT",
    ),
    "mask_off_grid": _of_masks(
        mask_defects.move_nifti,
        "the NIfTI mask is shifted",
        "NIFTI_OFF_GRID",
        "NIfTI",
    ),
    "two_masks": _of_masks(
        mask_defects.double_nifti,
        "two NIfTI masks lie in one folder",
        "NIFTI_AMBIGUOUS",
        "NIfTI",
        found_by="check",
    ),
}
"""Kind -> defect."""
