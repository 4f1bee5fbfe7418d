"""Why a scan is not used: every reason's code with its meaning, and the error.

The codes stand in manifests and on the terminal. Apart from `NOTES`, each sets a
series, its segmentation or its study aside; the patient stays in.
"""

from acfnet_core.errors import DataError

GATE_CODES = {
    "MIXED_PATIENT": "the series holds files of more than one patient",
    "MIXED_STUDY": "the series holds files of more than one study",
    "NO_PATIENT_ID": "a file has no patient identifier",
    "ONLY_LOCALIZER": "the series is a scout view",
    "NOT_ORIGINAL_PRIMARY": "the images were derived or are no plain CT images",
    "MULTI_FRAME": "there are multi-frame images that are not one stack in one file",
    "NO_IPP": "a file lacks its position or its orientation",
    "SAME_INSTANCE_TWICE": "a file is there twice; one copy was used",
    "INSTANCE_CONFLICT": "two different files have the same instance UID",
    "DUPLICATE_POSITIONS": "two slices lie at the same place",
    "MIXED_SIZE": "slices differ in rows or columns",
    "MIXED_ORIENTATION": "slices differ in orientation",
    "MIXED_PIXELSPACING": "slices differ in pixel spacing",
    "MISSING_SLICES": "slices are missing in between",
    "NON_UNIFORM_SPACING": "the distance between slices changes",
    "GANTRY_TILT": "slices are shifted sideways against each other",
    "NO_RESCALE": "a file cannot be turned into Hounsfield units",
    "TRUNCATED": "a file ends before its pixels do",
    "DECODE_FAILED": "a file's pixels cannot be decoded",
    "LOSSY": "the pixels were compressed with loss",
    "MIXED_FRAME_OF_REFERENCE": "slices lie in different frames of reference",
    "EMPTY_UID": "a file lacks one of its UIDs",
    "BURNED_IN": "the images have text burned into them",
    "TOO_FEW_SLICES": "the series has fewer slices than the contract's minimum",
    "THICK_SLICES": "slices are thicker or further apart than the contract's maximum",
    "TOO_LARGE": "the series is larger than any CT of the abdomen",
    "BROKEN_NEIGHBOUR": "a file in the same folder has an unreadable header",
    "READER_DIED": "reading the series or its segmentation crashed the program",
    "READER_LIMIT": "reading the series took more memory or time than a CT needs",
}
"""Every code of a series with what it means. All but SAME_INSTANCE_TWICE refuse it."""

NOTES = frozenset({"SAME_INSTANCE_TWICE"})
"""Codes that are reported and do not refuse a series."""

SEGMENTATION_CODES = {
    "NO_SEGMENTATION": "no segmentation belongs to the series",
    "SEG_WRONG_FRAME": "the segmentation lies in another frame of reference",
    "SEG_OFF_GRID": "the segmentation's voxels are not the CT's",
    "SEG_NO_LIVER": "the segmentation has no liver",
    "SEG_UNREADABLE": "the segmentation cannot be read",
    "RT_NOT_CLOSED_PLANAR": "a contour of the RTSTRUCT is no closed line in a plane",
    "RT_OFF_SLICE": "a contour of the RTSTRUCT does not lie on a slice of the CT",
    "RT_BEYOND_CT": "a contour of the RTSTRUCT reaches beyond the CT's images",
    "RT_CONTOURS_CROSS": "two contours of a structure cross, or are the same",
    "RT_SLICES_SKIPPED": "a structure of the RTSTRUCT is not drawn on every slice",
    "NIFTI_NO_LABELS": "site.toml does not say what the values of NIfTI masks mean",
    "NIFTI_AMBIGUOUS": "the NIfTI mask is not alone with one CT series in its folder",
    "NIFTI_NO_MASK": "the NIfTI file's values are no labels (whole numbers from 0)",
    "NIFTI_OFF_GRID": "the NIfTI mask's voxels are not the CT's",
    "NIFTI_TILTED": "a NIfTI mask on a tilted CT cannot be read",
}
"""Every code of a refused segmentation with what it means."""

PLAN_CODES = {
    "NO_STUDY_DATE": "the study has no date",
    "SCAN_AFTER_RESECTION": "the study is later than the contract allows",
    "SCAN_TOO_EARLY": "the study is earlier than the contract allows",
    "SCAN_SURPLUS": "the patient has more studies than the contract uses",
}
"""Every code of a study that was set aside for its date, with what it means."""

REASONS = {**GATE_CODES, **SEGMENTATION_CODES, **PLAN_CODES}
"""Every code that a series, a segmentation or a study can get, with what it means."""


_REMEDIES = {
    "NIFTI_NO_LABELS": "Add the section [data.nifti_labels] to site.toml.",
    "NIFTI_AMBIGUOUS": "Give each CT series a folder of its own, with its one mask.",
    "NIFTI_TILTED": "Draw it as DICOM SEG or RTSTRUCT, or export the CT untilted.",
    "RT_SLICES_SKIPPED": "Let the drawing program interpolate between the slices.",
}


class ScanRefusedError(DataError):
    """A CT series or its segmentation was refused; `reason_code` says why.

    Args:
        reason_code: A key of `GATE_CODES` or `SEGMENTATION_CODES`.
    """

    def __init__(self, reason_code: str) -> None:
        is_segmentation = reason_code in SEGMENTATION_CODES
        what = "segmentation" if is_segmentation else "CT series"
        super().__init__(
            "data.segmentation_refused" if is_segmentation else "data.series_refused",
            f"A {what} was refused, {reason_code}: {REASONS[reason_code]}.",
            remedy=(
                _REMEDIES.get(
                    reason_code,
                    "Export the segmentation again, on the CT series it was drawn on.",
                )
                if is_segmentation
                else "Export the series again from the archive."
            ),
        )
        self.reason_code = reason_code
