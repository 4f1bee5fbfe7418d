"""Faults that an enhanced multi-frame CT can have; each changes a faultless file.

What can be wrong with plain slices is in `slice_defects.py`; some of that, such as a
file that was cut off, fits here too.
"""

from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.study_files import WrittenStudy


def lose_frame(study: WrittenStudy) -> None:
    """Take the frame in the middle out of the file."""

    def change(file: Dataset) -> None:
        middle = int(file.NumberOfFrames) // 2
        _keep(file, [n for n in range(file.NumberOfFrames) if n != middle])

    _change(_file_of(study), change)


def repeat_frame(study: WrittenStudy) -> None:
    """Add the frame in the middle once more at the end."""

    def change(file: Dataset) -> None:
        num_frames = int(file.NumberOfFrames)
        _keep(file, [*range(num_frames), num_frames // 2])

    _change(_file_of(study), change)


def promise_frame(study: WrittenStudy) -> None:
    """Say that there is one frame more than the file describes."""

    def change(file: Dataset) -> None:
        file.NumberOfFrames += 1

    _change(_file_of(study), change)


def part_times(study: WrittenStudy) -> None:
    """Say that the upper half was taken at a second time."""

    def change(file: Dataset) -> None:
        groups = file.PerFrameFunctionalGroupsSequence
        for number, group in enumerate(groups):
            is_upper = number >= len(groups) // 2
            group.FrameContentSequence[0].TemporalPositionIndex = 1 + is_upper

    _change(_file_of(study), change)


def part_file(study: WrittenStudy) -> None:
    """Divide the frames into two files, as an archive with a limit of size does."""
    path = _file_of(study)
    num_frames = int(dcmread(path, stop_before_pixels=True).NumberOfFrames)
    lower = list(range(num_frames // 2))
    upper = list(range(num_frames // 2, num_frames))
    rest = dcmread(path)
    rest.SOPInstanceUID = make_uid("another", rest.SOPInstanceUID)
    rest.file_meta.MediaStorageSOPInstanceUID = rest.SOPInstanceUID
    rest.InstanceNumber = 2
    _keep(rest, upper)
    rest.save_as(path.with_name("1-002.dcm"), enforce_file_format=True)
    _change(path, lambda file: _keep(file, lower))


def forget_place(study: WrittenStudy) -> None:
    """Take its place away from the frame in the middle."""

    def change(file: Dataset) -> None:
        groups = file.PerFrameFunctionalGroupsSequence
        del groups[len(groups) // 2].PlanePositionSequence

    _change(_file_of(study), change)


def _keep(file: Dataset, numbers: list[int]) -> None:
    """Leave the frames with these numbers, from 0, in the order given."""
    size_bytes = len(file.PixelData) // int(file.NumberOfFrames)
    groups = file.PerFrameFunctionalGroupsSequence
    file.PixelData = b"".join(
        file.PixelData[number * size_bytes : (number + 1) * size_bytes]
        for number in numbers
    )
    file.PerFrameFunctionalGroupsSequence = [groups[number] for number in numbers]
    file.NumberOfFrames = len(numbers)


def _file_of(study: WrittenStudy) -> Path:
    (path,) = study.slices
    return path


def _change(path: Path, change: Callable[[Dataset], None]) -> None:
    file = dcmread(path)
    change(file)
    file.save_as(path, enforce_file_format=True)
