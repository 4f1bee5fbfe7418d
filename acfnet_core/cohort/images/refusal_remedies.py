"""What an operator can do about each reason why a scan is not used.

Apart from the meanings, which travel with every error: these are for a page that has
room for them.
"""

_EXPORT_AGAIN = "Export the series again from the archive, whole and unchanged."
_REPAIR = "If the archive has it no better, see [data.repairs] in site.toml."
_DRAW_ON_THIS_CT = (
    "Export the segmentation again on the very series it was drawn on, without "
    "resampling or registering either."
)

WHAT_TO_DO = {
    "MIXED_PATIENT": "Export each patient on their own; two were merged under one "
    "series. If pseudonyms were given by hand, look for a mix-up first.",
    "MIXED_STUDY": "Export each examination on its own; software that makes UIDs anew "
    "may have given two of them the same series UID.",
    "NO_PATIENT_ID": "Export with the patient's identifier, the one that the table "
    f"has. {_REPAIR}",
    "ONLY_LOCALIZER": "Nothing, if the CT itself is there as another series; else "
    "export that too.",
    "NOT_ORIGINAL_PRIMARY": "Export the original axial images instead of a reformat, "
    "a projection or a screenshot.",
    "MULTI_FRAME": "Let the archive export one file for the whole scan, or classic CT "
    "images, one file a slice.",
    "NO_IPP": f"{_EXPORT_AGAIN} Anonymising software may have taken the position out.",
    "SAME_INSTANCE_TWICE": "Nothing; remove the second copy if you like.",
    "INSTANCE_CONFLICT": "Find out which of the two files is right, and remove the "
    "other; an edited copy often lies beside the original.",
    "DUPLICATE_POSITIONS": "Export the phases of a dynamic scan as series of their "
    "own, or remove the reconstruction that is not wanted.",
    "MIXED_SIZE": "Export the reconstructions as series of their own.",
    "MIXED_ORIENTATION": "Export the orientations as series of their own.",
    "MIXED_PIXELSPACING": "Export the reconstructions as series of their own.",
    "MISSING_SLICES": f"{_EXPORT_AGAIN} {_REPAIR}",
    "NON_UNIFORM_SPACING": "Export a reconstruction with even spacing; look for lost "
    "slices at the place where the distance changes.",
    "GANTRY_TILT": f"Export a reconstruction without tilt. {_REPAIR}",
    "NO_RESCALE": "Export again with rescale slope and intercept; ask the vendor of "
    "the archive if they are missing there.",
    "TRUNCATED": "Copy the file again: the transfer broke off or the disk was full.",
    "DECODE_FAILED": "Export the series again uncompressed (Explicit VR Little "
    "Endian); if it still fails, the file is damaged.",
    "LOSSY": "Export the images as they came from the scanner; a lossy copy cannot be "
    "turned back.",
    "MIXED_FRAME_OF_REFERENCE": "Export the acquisitions as series of their own.",
    "EMPTY_UID": "Export again without removing UIDs; anonymise by replacing them. "
    f"{_REPAIR}",
    "BURNED_IN": "Export the series without text in the pixels; it may name the "
    "patient.",
    "TOO_FEW_SLICES": "Look for the rest of the series; if the scan really is this "
    "short, the study cannot use it.",
    "THICK_SLICES": "Export a thinner reconstruction of the same scan, if there is "
    "one.",
    "TOO_LARGE": "Export the abdomen alone, in a matrix of 512 or 1024.",
    "BROKEN_NEIGHBOUR": "Copy the folder again, or move the unreadable file out of "
    "it once you know that it is no slice of the series.",
    "READER_DIED": "Export the series and its segmentation again, uncompressed "
    "(Explicit VR Little Endian). If that crashes too, keep the files away from other "
    "programs: a file that crashes a decoder may be meant to.",
    "READER_LIMIT": "Export the abdomen alone, uncompressed. Repeat with --workers 1 "
    "if the machine is short of memory.",
    "NO_SEGMENTATION": "Draw the liver on this series, or put the segmentation where "
    "the contract's page says; check that it names this series.",
    "SEG_WRONG_FRAME": _DRAW_ON_THIS_CT,
    "SEG_OFF_GRID": _DRAW_ON_THIS_CT,
    "SEG_NO_LIVER": "Name the liver's segment as the contract does, or draw it.",
    "SEG_UNREADABLE": "Save the segmentation again as DICOM SEG, and try to open it "
    "with another program.",
    "RT_NOT_CLOSED_PLANAR": "Save the structures as closed contours in the slices' "
    "own plane.",
    "RT_OFF_SLICE": _DRAW_ON_THIS_CT,
    "RT_BEYOND_CT": _DRAW_ON_THIS_CT,
    "RT_CONTOURS_CROSS": "Correct the contours in the drawing program; a doubled one "
    "may be deleted.",
    "RT_SLICES_SKIPPED": "Let the drawing program interpolate between the slices, and "
    "save the structures again.",
    "NIFTI_NO_LABELS": "Write the section [data.nifti_labels] in site.toml.",
    "NIFTI_AMBIGUOUS": "Give each CT series a folder of its own, with its one mask.",
    "NIFTI_NO_MASK": "Put the label map in place of the image or the probabilities.",
    "NIFTI_OFF_GRID": "Save the mask with the size and the orientation of the CT it "
    "was drawn on.",
    "NIFTI_TILTED": "Draw the liver as DICOM SEG or RTSTRUCT, or export the CT and its "
    "mask without tilt.",
    "NO_STUDY_DATE": "Export with the study's date; all of a patient's dates may be "
    "shifted by the same number of days.",
    "SCAN_AFTER_RESECTION": "Nothing, if the dates are right. If all of a patient's "
    "scans are here, the resection's date or the shift of dates is wrong.",
    "SCAN_TOO_EARLY": "Nothing, if the dates are right; the study looks back no "
    "further.",
    "SCAN_SURPLUS": "Nothing: the scans nearest to the resection were taken.",
}
"""Every code of a series, a segmentation or a study -> what to do about it."""
