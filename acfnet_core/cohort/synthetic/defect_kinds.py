"""What a seeded defect of a study is: what is done, and what it must be found as."""

from dataclasses import dataclass
from typing import Literal

from acfnet_core.cohort.synthetic.slice_defects import Plant
from acfnet_core.cohort.synthetic.study_files import CtFormat, MaskFormat

Finder = Literal["check", "prepare"]
"""`data check` reads headers; what only pixels or masks show is found by `prepare`."""

ANY_MASKS: tuple[MaskFormat, ...] = ("DICOM SEG", "RTSTRUCT", "NIfTI")
DICOM_MASKS: tuple[MaskFormat, ...] = ("DICOM SEG", "RTSTRUCT")
_SLICES: tuple[CtFormat, ...] = ("slices",)
_FRAMES: tuple[CtFormat, ...] = ("frames",)
BOTH_CT: tuple[CtFormat, ...] = ("slices", "frames")


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
        ct_formats: Patients whose CT has one of these formats can have it.
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
    formats: tuple[MaskFormat, ...] = ANY_MASKS
    ct_formats: tuple[CtFormat, ...] = _SLICES
    needs_plain_pixels: bool = False


def of_series(
    plant: Plant,
    meaning: str,
    *codes: str,
    num_broken: int = 0,
    num_strangers: int = 0,
    ct_formats: tuple[CtFormat, ...] = _SLICES,
) -> Defect:
    """Return a defect for which the gate refuses the series."""
    return Defect(
        plant=plant,
        meaning=meaning,
        series_codes=codes,
        study_codes=codes,
        num_broken=num_broken,
        num_strangers=num_strangers,
        ct_formats=ct_formats,
    )


def of_frames(plant: Plant, meaning: str, code: str) -> Defect:
    """Return a defect for which the gate refuses a multi-frame file."""
    return of_series(plant, meaning, code, ct_formats=_FRAMES)


def of_masks(
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
        ct_formats=BOTH_CT,
    )
