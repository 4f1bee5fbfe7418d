"""Faults that a CT series can have: each changes the files of a faultless one.

Apart from the catalogue (`defects.py`), which says what each must be found as.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.study_files import WrittenStudy

TILT_DEGREES = 12.0
MOST_SPACING_MM = 10.0
"""The shipped contract's bound on the distance of slices."""

OTHER_PATIENT = "CRLM-SYN-X0001"
"""Nobody's identifier."""

_HEADER_BYTES = 400

Plant = Callable[[WrittenStudy], None]


def in_one_slice(change: Callable[[Dataset], None]) -> Plant:
    """Return a defect that changes the header of the slice in the middle."""
    return lambda study: _change(_middle(study), change)


def in_all_slices(change: Callable[[Dataset], None]) -> Plant:
    """Return a defect that changes the header of every slice."""

    def plant(study: WrittenStudy) -> None:
        for path in study.slices:
            _change(path, change)

    return plant


def setting(**values: Any) -> Callable[[Dataset], None]:
    """Return a change of header attributes; None takes an attribute away."""

    def change(dataset: Dataset) -> None:
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return change


def lose_slice(study: WrittenStudy) -> None:
    """Remove the slice in the middle."""
    _middle(study).unlink()


def lose_every_second_slice_above(study: WrittenStudy) -> None:
    """Double the spacing in the upper half, as a change of protocol does."""
    slices = study.slices
    for path in slices[len(slices) // 2 :: 2]:
        path.unlink()


def keep_two_slices(study: WrittenStudy) -> None:
    """Remove all slices but the lowest two."""
    for path in study.slices[2:]:
        path.unlink()


def thin_out(study: WrittenStudy) -> None:
    """Keep so few slices that they lie too far apart."""
    slices = study.slices
    spacing_mm = float(dcmread(slices[0], stop_before_pixels=True).SliceThickness)
    step = math.floor(MOST_SPACING_MM / spacing_mm) + 1
    for index, path in enumerate(slices):
        if index % step:
            path.unlink()
        else:
            wide = f"{step * spacing_mm:g}"
            _change(path, setting(SliceThickness=wide, SpacingBetweenSlices=wide))


def repeat_slice(study: WrittenStudy) -> None:
    """Add a slice at the place of another, with an identifier of its own."""
    path = _add_copy(study)
    _change(path, _rename)


def copy_file(study: WrittenStudy) -> None:
    """Put the same file into the folder twice."""
    _add_copy(study)


def contradict_file(study: WrittenStudy) -> None:
    """Put two different files with one identifier into the folder."""
    _change(_add_copy(study), setting(KVP="100"))


def tilt_gantry(study: WrittenStudy) -> None:
    """Shift slices sideways against each other, as a tilted gantry does."""
    first_mm = float(
        dcmread(study.slices[0], stop_before_pixels=True).ImagePositionPatient[2]
    )
    slope = math.tan(math.radians(TILT_DEGREES))

    def shift(dataset: Dataset) -> None:
        x_mm, y_mm, z_mm = map(float, dataset.ImagePositionPatient)
        y_mm += slope * (z_mm - first_mm)
        dataset.ImagePositionPatient = [f"{v:.3f}" for v in (x_mm, y_mm, z_mm)]
        dataset.GantryDetectorTilt = f"{TILT_DEGREES:g}"

    in_all_slices(shift)(study)


def add_localizer(study: WrittenStudy) -> None:
    """Add a scout view, seen from the front, to the series."""

    def turn(dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
        _rename(dataset)

    _change(_add_copy(study), turn)


def cut_pixels(study: WrittenStudy) -> None:
    """Cut off half of a file, as an interrupted copy does."""
    path = _middle(study)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def add_broken_file(study: WrittenStudy) -> None:
    """Add a file that ends within its header."""
    content = _middle(study).read_bytes()[:_HEADER_BYTES]
    (study.ct_folder / "9-001.dcm").write_bytes(content)


def add_empty_file(study: WrittenStudy) -> None:
    """Add a file without content."""
    (study.ct_folder / "9-001.dcm").write_bytes(b"")


def crop_slice(study: WrittenStudy) -> None:
    """Take the lower half of the pixels away from one slice."""

    def crop(dataset: Dataset) -> None:
        dataset.Rows //= 2
        dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]

    _change(_middle(study), crop)


def _middle(study: WrittenStudy) -> Path:
    slices = study.slices
    return slices[len(slices) // 2]


def _add_copy(study: WrittenStudy) -> Path:
    path = study.ct_folder / "1-999.dcm"
    shutil.copyfile(_middle(study), path)
    return path


def _rename(dataset: Dataset) -> None:
    uid = make_uid("another", dataset.SOPInstanceUID)
    dataset.SOPInstanceUID = uid
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.InstanceNumber = 999


def _change(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)
