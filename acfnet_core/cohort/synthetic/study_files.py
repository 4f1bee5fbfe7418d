"""Writing one study of a made-up patient as a hospital would hand it over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from acfnet_core.cohort.synthetic.ct_files import PixelCoding, write_ct
from acfnet_core.cohort.synthetic.frame_files import write_frames
from acfnet_core.cohort.synthetic.image import SyntheticScan
from acfnet_core.cohort.synthetic.nifti_files import write_nifti
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient
from acfnet_core.cohort.synthetic.seg_files import write_segmentations
from acfnet_core.cohort.synthetic.structure_files import write_structures
from acfnet_core.cohort.synthetic.study_header import Demographics, study_folder_of

MaskFormat = Literal["DICOM SEG", "RTSTRUCT", "NIfTI"]
CtFormat = Literal["slices", "frames"]
"""A file for each slice, or one enhanced multi-frame file."""


@dataclass(frozen=True, kw_only=True)
class StudyForm:
    """How an archive hands a study over.

    Args:
        masks: Format of the segmentation.
        coding: How pixels are stored.
        ct: Slices or frames; frames go with plain pixels, and not with RTSTRUCT.
        has_rivals: Whether two more DICOM SEG compete with the right one.

    Raises:
        ValueError: Frames are asked for with what they do not go with.
    """

    masks: MaskFormat = "DICOM SEG"
    coding: PixelCoding = "plain"
    ct: CtFormat = "slices"
    has_rivals: bool = False

    def __post_init__(self) -> None:
        if self.ct == "frames" and (self.masks == "RTSTRUCT" or self.coding != "plain"):
            raise ValueError(
                "ct='frames' goes with plain pixels and without RTSTRUCT, got "
                f"masks={self.masks!r}, coding={self.coding!r}"
            )


PLAIN_FORM = StudyForm()
"""Plain pixels and one DICOM SEG, as in most of the public cohort."""


@dataclass(frozen=True, kw_only=True)
class WrittenStudy:
    """Where the files of a study lie.

    Attributes:
        ct_folder: With one file for each slice, named in the order of the slices, or
            with one file of all frames.
        mask_files: All segmentations.
    """

    ct_folder: Path
    mask_files: tuple[Path, ...]

    @property
    def slices(self) -> list[Path]:
        """The files of the CT, foot to head; of frames there is one."""
        return sorted(self.ct_folder.glob("1-*.dcm"))


def write_study(
    patient: SyntheticPatient,
    scan: PlannedScan,
    content: SyntheticScan,
    images: Path,
    *,
    form: StudyForm = PLAIN_FORM,
    demographics: Demographics | None = None,
) -> None:
    """Write one study in the layout of TCIA: a folder for each series.

    Args:
        patient: Whose study it is.
        scan: When it was made.
        content: The voxels.
        images: The site's folder of images.
        form: Of the files.
        demographics: What headers say of the person; None is what the table says.

    Raises:
        OSError: The folder cannot be written.
    """
    person = demographics or Demographics.of(patient)
    folder = study_folder_of(patient, scan, images)
    if form.ct == "frames":
        slices = [write_frames(patient, scan, content, folder, demographics=person)]
    else:
        slices = write_ct(
            patient, scan, content, folder, demographics=person, coding=form.coding
        )
    if form.masks == "DICOM SEG":
        write_segmentations(slices, content.masks, folder, has_rivals=form.has_rivals)
    elif form.masks == "RTSTRUCT":
        write_structures(
            patient, scan, slices, content.masks, folder, demographics=person
        )
    else:
        write_nifti(content, _ct_folder(folder))


def find_study(
    patient: SyntheticPatient, scan: PlannedScan, images: Path
) -> WrittenStudy:
    """Return where a study that was written lies."""
    folder = study_folder_of(patient, scan, images)
    ct_folder = _ct_folder(folder)
    others = sorted(one for one in folder.glob("*/*") if one.parent != ct_folder)
    masks = (*others, *sorted(ct_folder.glob("*.nii.gz")))
    return WrittenStudy(ct_folder=ct_folder, mask_files=masks)


def _ct_folder(study_folder: Path) -> Path:
    (folder,) = study_folder.glob("100.*")
    return folder
