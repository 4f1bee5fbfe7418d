"""The catalogue of seeded defects: what is done, and what it must be found as."""

from acfnet_core.cohort.synthetic import (
    frame_defects,
    mask_defects,
    slice_defects,
)
from acfnet_core.cohort.synthetic.defect_kinds import (
    ANY_MASKS,
    BOTH_CT,
    DICOM_MASKS,
    Defect,
    of_frames,
    of_masks,
    of_series,
)
from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.slice_defects import (
    in_all_slices,
    in_one_slice,
    setting,
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
    "missing_slice": of_series(
        slice_defects.lose_slice, "one slice was left out", "MISSING_SLICES"
    ),
    "duplicate_slice": of_series(
        slice_defects.repeat_slice,
        "a slice is there twice, under two identifiers",
        "DUPLICATE_POSITIONS",
    ),
    "copied_file": Defect(
        plant=slice_defects.copy_file,
        meaning="a file is there twice; the series can be used",
        series_codes=("SAME_INSTANCE_TWICE",),
        ct_formats=BOTH_CT,
    ),
    "contradicting_files": of_series(
        slice_defects.contradict_file,
        "two different files have one identifier",
        "INSTANCE_CONFLICT",
        ct_formats=BOTH_CT,
    ),
    "gantry_tilt": of_series(
        slice_defects.tilt_gantry, "the gantry was tilted", "GANTRY_TILT"
    ),
    "mixed_patient": of_series(
        in_one_slice(setting(PatientID=slice_defects.OTHER_PATIENT)),
        "one slice bears another patient's identifier",
        "MIXED_PATIENT",
        num_strangers=1,
    ),
    "localizer": of_series(
        slice_defects.add_localizer,
        "a scout view is part of the series",
        "NOT_ORIGINAL_PRIMARY",
        "MIXED_ORIENTATION",
    ),
    "derived_images": of_series(
        in_all_slices(setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])),
        "the images were reformatted",
        "NOT_ORIGINAL_PRIMARY",
    ),
    "truncated_file": Defect(
        plant=slice_defects.cut_pixels,
        meaning="half of a file was lost",
        series_codes=("TRUNCATED",),
        study_codes=("TRUNCATED",),
        ct_formats=BOTH_CT,
        needs_plain_pixels=True,
    ),
    "unreadable_file": of_series(
        slice_defects.add_broken_file,
        "a file ends within its header",
        "BROKEN_NEIGHBOUR",
        num_broken=1,
        ct_formats=BOTH_CT,
    ),
    "empty_file": Defect(
        plant=slice_defects.add_empty_file,
        meaning="a file without content lies beside the series, which can be used",
        num_ignored=1,
        ct_formats=BOTH_CT,
    ),
    "lossy": of_series(
        in_all_slices(setting(LossyImageCompression="01")),
        "the pixels were once compressed with loss",
        "LOSSY",
        ct_formats=BOTH_CT,
    ),
    "no_rescale": of_series(
        in_one_slice(setting(RescaleSlope=None, RescaleIntercept=None)),
        "one slice does not say what its values mean",
        "NO_RESCALE",
    ),
    "no_position": of_series(
        in_one_slice(setting(ImagePositionPatient=None)),
        "one slice does not say where it lies",
        "NO_IPP",
    ),
    "mixed_frame": of_series(
        in_one_slice(setting(FrameOfReferenceUID=make_uid("another frame"))),
        "one slice lies in another frame of reference",
        "MIXED_FRAME_OF_REFERENCE",
    ),
    "mixed_pixel_spacing": of_series(
        in_one_slice(setting(PixelSpacing=["2.9", "2.9"])),
        "one slice has another pixel spacing",
        "MIXED_PIXELSPACING",
    ),
    "mixed_size": Defect(
        plant=slice_defects.crop_slice,
        meaning="one slice has fewer rows",
        series_codes=("MIXED_SIZE",),
        study_codes=("MIXED_SIZE",),
        needs_plain_pixels=True,
    ),
    "empty_uids": of_series(
        in_all_slices(setting(**_NO_UIDS)), "all identifiers are empty", "EMPTY_UID"
    ),
    "burned_in": of_series(
        in_all_slices(setting(BurnedInAnnotation="YES")),
        "text is burned into the images",
        "BURNED_IN",
        ct_formats=BOTH_CT,
    ),
    "thick_slices": of_series(
        slice_defects.thin_out, "slices lie too far apart", "THICK_SLICES"
    ),
    "uneven_slices": of_series(
        slice_defects.lose_every_second_slice_above,
        "slices lie twice as far apart in the upper half",
        "NON_UNIFORM_SPACING",
    ),
    "two_slices": of_series(
        slice_defects.keep_two_slices, "two slices are left", "TOO_FEW_SLICES"
    ),
    "missing_frame": of_frames(
        frame_defects.lose_frame, "one frame was left out", "MISSING_SLICES"
    ),
    "duplicate_frame": of_frames(
        frame_defects.repeat_frame, "a frame is there twice", "DUPLICATE_POSITIONS"
    ),
    "frame_not_described": of_frames(
        frame_defects.promise_frame,
        "the file has one frame less than it says",
        "MULTI_FRAME",
    ),
    "two_times": of_frames(
        frame_defects.part_times, "the frames are of two times", "MULTI_FRAME"
    ),
    "divided_frames": of_frames(
        frame_defects.part_file, "the frames are in two files", "MULTI_FRAME"
    ),
    "frame_without_position": of_frames(
        frame_defects.forget_place, "one frame does not say where it lies", "NO_IPP"
    ),
    "no_study_date": Defect(
        plant=in_all_slices(setting(StudyDate="")),
        meaning="the study has no date",
        study_codes=("NO_STUDY_DATE",),
        ct_formats=BOTH_CT,
    ),
    "after_resection": Defect(
        plant=in_all_slices(setting(StudyDate="20010101")),
        meaning="the study was made years after the resection",
        study_codes=("SCAN_AFTER_RESECTION",),
        ct_formats=BOTH_CT,
    ),
    "no_segmentation": of_masks(
        mask_defects.lose_masks,
        "the segmentation was left out",
        "NO_SEGMENTATION",
        *ANY_MASKS,
        found_by="check",
    ),
    "segmentation_in_other_frame": of_masks(
        mask_defects.move_frame,
        "the segmentation lies in another frame of reference",
        "SEG_WRONG_FRAME",
        *DICOM_MASKS,
        found_by="check",
    ),
    "segmentation_without_liver": of_masks(
        mask_defects.rename_liver,
        "no segment is called liver",
        "SEG_NO_LIVER",
        *DICOM_MASKS,
    ),
    "segmentation_off_grid": of_masks(
        mask_defects.move_off_grid,
        "the segmentation is shifted by a part of a voxel",
        "SEG_OFF_GRID",
        "DICOM SEG",
    ),
    "contours_off_slice": of_masks(
        mask_defects.lift_contours,
        "the contours lie between slices",
        "RT_OFF_SLICE",
        "RTSTRUCT",
    ),
    "open_contours": of_masks(
        mask_defects.open_contours,
        "the contours are open lines",
        "RT_NOT_CLOSED_PLANAR",
        "RTSTRUCT",
    ),
    "mask_off_grid": of_masks(
        mask_defects.move_nifti,
        "the NIfTI mask is shifted",
        "NIFTI_OFF_GRID",
        "NIfTI",
    ),
    "two_masks": of_masks(
        mask_defects.double_nifti,
        "two NIfTI masks lie in one folder",
        "NIFTI_AMBIGUOUS",
        "NIfTI",
        found_by="check",
    ),
}
"""Kind -> defect."""
