"""Ways of writing an edge series: what is changed in headers, pixels and folders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from references.ct_series import uid_of
from references.edge_files import (
    compress,
    compress_enhanced,
    cut_off,
    write_file,
    write_slices,
)
from references.edge_world import (
    NUM_SLICES,
    Slice,
    copy_slice,
    cut_slices,
    store_pixels,
    stored_pixels,
    to_enhanced,
)

Write = Callable[[Path], Sequence[Sequence[Slice]]]
"""Writes a case's files and returns the true slices of each series."""

Change = Callable[[list[Slice]], None]
"""Changes slices before they are written."""

CHANGED = slice(5, 6)
"""The one slice that is changed where one is."""


def cut(change: Change | None = None, *, keep: Any = slice(None), **how: Any) -> Write:
    """Cut slices, change them, and write those that are kept."""

    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        slices = cut_slices(**how)
        if change is not None:
            change(slices)
        written = slices[keep] if isinstance(keep, slice) else [slices[i] for i in keep]
        write_slices(written, folder)
        return [slices]

    return write


def each_slice(change: Callable[[Slice], None], where: slice = slice(None)) -> Change:
    def change_all(slices: list[Slice]) -> None:
        for one in slices[where]:
            change(one)

    return change_all


def set_value(name: str, value: Any, where: slice = slice(None)) -> Change:
    return each_slice(lambda one: setattr(one.dataset, name, value), where)


def no_number(name: str, value: Any) -> Change:
    def change(slices: list[Slice]) -> None:
        # pydicom would not take the value by its name.
        tag = tag_for_keyword(name)
        assert tag is not None
        element = DataElement(tag, "DS", value, already_converted=True)
        slices[5].dataset[tag] = element

    return change


def drop_value(name: str, where: slice = slice(None)) -> Change:
    return each_slice(lambda one: delattr(one.dataset, name), where)


def all_of(*changes: Change) -> Change:
    def change(slices: list[Slice]) -> None:
        for one in changes:
            one(slices)

    return change


def as_syntax(syntax: str, how: Callable[[Dataset], None] | None = None) -> Write:
    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        slices = cut_slices()
        for one in slices:
            if how is not None:
                how(one.dataset)
        write_slices(slices, folder, syntax)
        return [slices]

    return write


def compressed(syntax: str, *, bits: int = 16, signed: bool = True) -> Write:
    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        slices = cut_slices()
        for one in slices:
            values = stored_pixels(one.dataset)
            store_pixels(one.dataset, values if signed else values.astype("<u2"))
            one.dataset.BitsStored, one.dataset.HighBit = bits, bits - 1
            compress(one.dataset, syntax)
        write_slices(slices, folder, syntax)
        return [slices]

    return write


def in_bits(bits: int, *, signed: bool, high: int = 0) -> Change:
    """Store values in the lowest bits; those above are zero or `high`."""

    def change(one: Slice) -> None:
        mask = (1 << bits) - 1
        values = stored_pixels(one.dataset).astype(np.int64)
        if signed:
            # Around zero, so that there is a sign to be lost.
            values -= 1500
            one.dataset.RescaleIntercept = -1024 + 1500
        words = (values & mask) | (high << bits)
        store_pixels(one.dataset, words.astype("<u2"), bits=bits)
        one.dataset.PixelRepresentation = int(signed)

    return each_slice(change)


def enhanced(
    change: Callable[[Any], None] = lambda file: None,
    *,
    order: Sequence[int] = tuple(range(NUM_SLICES)),
    syntax: str = ExplicitVRLittleEndian,
    before: Change | None = None,
    **how: Any,
) -> Write:
    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        slices = cut_slices(**how)
        if before is not None:
            before(slices)
        file = to_enhanced([slices[index] for index in order], change)
        compress_enhanced(file, syntax)
        write_file(file, folder / "frames.dcm", syntax)
        return [slices]

    return write


def in_frame(group: str, name: str, value: Any, where: slice) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        for frame in file.PerFrameFunctionalGroupsSequence[where]:
            setattr(frame[group][0], name, value)

    return change


def without_group(group: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file.PerFrameFunctionalGroupsSequence[5][group]

    return change


def enhanced_parts(folder: Path) -> Sequence[Sequence[Slice]]:
    slices = cut_slices()
    for number, part in enumerate((slices[:5], slices[5:])):
        file = to_enhanced(part)
        file.SOPInstanceUID = uid_of("edge part", number)
        write_file(file, folder / f"part-{number}.dcm", ExplicitVRLittleEndian)
    return [slices]


def enhanced_twice(folder: Path) -> Sequence[Sequence[Slice]]:
    written = enhanced()(folder)
    (folder / "again.dcm").write_bytes((folder / "frames.dcm").read_bytes())
    return written


def enhanced_cut(folder: Path) -> Sequence[Sequence[Slice]]:
    written = enhanced()(folder)
    cut_off(folder / "frames.dcm", 900)
    return written


def concatenated(file: Any) -> None:
    file.ConcatenationUID, file.InConcatenationNumber = "1.2.3.4", 1
    file.InConcatenationTotalNumber = 2


def plain_many_frames(slices: list[Slice]) -> None:
    for one in slices:
        one.dataset.NumberOfFrames = 2
        one.dataset.PixelData *= 2


def capture_of_many(file: Any) -> None:
    file.SOPClassUID = SecondaryCaptureImageStorage


def with_folder(*extra: Callable[[Path, list[Slice]], None], **how: Any) -> Write:
    """Write a faultless series and then do something to its folder."""

    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        slices = cut_slices(**how)
        write_slices(slices, folder)
        for one in extra:
            one(folder, slices)
        return [slices]

    return write


def copy_a_file(folder: Path, slices: list[Slice]) -> None:
    (folder / "another-name").write_bytes(_nth(folder, 3).read_bytes())


def copy_a_slice(folder: Path, slices: list[Slice]) -> None:
    again = copy_slice(slices[4])
    again.dataset.SOPInstanceUID = uid_of("edge again")
    write_file(again.dataset, folder / "again.dcm", ExplicitVRLittleEndian)


def second_acquisition(folder: Path, slices: list[Slice]) -> None:
    for one in slices:
        again = copy_slice(one)
        again.dataset.SOPInstanceUID = uid_of("second", one.dataset.InstanceNumber)
        again.dataset.AcquisitionNumber = 2
        name = f"second-{again.dataset.InstanceNumber}.dcm"
        write_file(again.dataset, folder / name, ExplicitVRLittleEndian)


def add_scout(*, same_series: bool) -> Callable[[Path, list[Slice]], None]:
    def add(folder: Path, slices: list[Slice]) -> None:
        scout = copy_slice(slices[0]).dataset
        scout.SOPInstanceUID = uid_of("edge scout")
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        if not same_series:
            scout.Modality = "CR"
        write_file(scout, folder / "scout.dcm", ExplicitVRLittleEndian)

    return add


def add_litter(folder: Path, slices: list[Slice]) -> None:
    (folder / "notes.txt").write_text("nothing to see")
    (folder / "empty.dcm").touch()
    write_file(slices[3].dataset, folder / "DICOMDIR", ExplicitVRLittleEndian)


def cut_pixels(folder: Path, slices: list[Slice]) -> None:
    cut_off(_nth(folder, 4), 100)


def cut_header(folder: Path, slices: list[Slice]) -> None:
    path = _nth(folder, 4)
    path.write_bytes(path.read_bytes()[:300])


def declare(old: bytes, new: bytes) -> Callable[[Path, list[Slice]], None]:
    """Let one file lie of its transfer syntax, in as many bytes."""

    def change(folder: Path, slices: list[Slice]) -> None:
        path = _nth(folder, 4)
        content = path.read_bytes()
        assert old in content
        assert len(old) == len(new)
        path.write_bytes(content.replace(old, new, 1))

    return change


def _nth(folder: Path, index: int) -> Path:
    return sorted(folder.glob("*.dcm"))[index]


def garbled(syntax: str) -> Write:
    """Compressed pixels of which one slice's are noise."""

    def write(folder: Path) -> Sequence[Sequence[Slice]]:
        written = compressed(syntax)(folder)
        path = _nth(folder, 4)
        content = bytearray(path.read_bytes())
        noise = np.random.default_rng(4).integers(0, 256, 200, dtype=np.uint8)
        content[-220:-20] = noise.tobytes()
        path.write_bytes(bytes(content))
        return written

    return write


def two_series(folder: Path) -> Sequence[Sequence[Slice]]:
    both = [cut_slices(), cut_slices(number=1, heights_mm=[2.0 * i for i in range(9)])]
    for slices in both:
        write_slices(slices, folder)
    return both


def shrink(one: Slice) -> None:
    store_pixels(one.dataset, stored_pixels(one.dataset)[:16, :16])


def claim_huge(one: Slice) -> None:
    one.dataset.Rows = one.dataset.Columns = 65535


def add_padding(one: Slice) -> None:
    one.hu[:3] = -2000 - 1024
    stored = stored_pixels(one.dataset).copy()
    stored[:3] = -2000
    store_pixels(one.dataset, stored)
    one.dataset.add_new("PixelPaddingValue", "SS", -2000)


def rescale_alone(slices: list[Slice]) -> None:
    one = slices[5]
    store_pixels(one.dataset, stored_pixels(one.dataset) - 500)
    one.dataset.RescaleIntercept = -1024 + 500


def add_private(one: Slice) -> None:
    block = one.dataset.private_block(0x0009, "ACF EDGE", create=True)
    block.add_new(0x01, "LO", "anything")


def jitter(slices: list[Slice]) -> None:
    for index, one in enumerate(slices):
        x, y, z = (float(part) for part in one.dataset.ImagePositionPatient)
        one.dataset.ImagePositionPatient = [x, y, z + 0.005 * (-1) ** index]


def shift_one(slices: list[Slice]) -> None:
    x, y, z = (float(part) for part in slices[5].dataset.ImagePositionPatient)
    slices[5].dataset.ImagePositionPatient = [x + 0.5, y, z]


def lose_the_first(slices: list[Slice]) -> None:
    del slices[0]


def share_a_uid(slices: list[Slice]) -> None:
    slices[7].dataset.SOPInstanceUID = slices[6].dataset.SOPInstanceUID
