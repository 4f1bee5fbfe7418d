"""What a NIfTI file holds, told from its header and counted slice by slice.

The file is read as a stream, one slice at a time and no further than its header says,
so that neither a large file nor one that unpacks without end fills the memory.

Source: the NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

NIFTI_ERRORS = (OSError, EOFError, ValueError, OverflowError, zlib.error, struct.error)
"""What reading a broken or foreign file raises."""

_MAX_LABELS = 200
_MAX_LABEL = 2**16 - 1
_MAX_VOXELS = 2**30
_MAX_SIDE = 4096
_MAX_OFFSET_BYTES = 2**24
_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""NIfTI's code of a datatype -> numpy's, without the order of bytes."""

_Stream = BufferedReader | gzip.GzipFile


@dataclass(frozen=True, kw_only=True)
class NiftiContents:
    """The contents of one file.

    Attributes:
        shape: Voxels along (k, j, i), the order of a series' (slice, row, column).
        spacing_mm: Along the same axes.
        voxels: Label -> voxels, without the background 0; None if the file is no mask:
            a mask has whole numbers from 0, and no more than 200 different ones.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    voxels: dict[int, int] | None


@dataclass(frozen=True, kw_only=True)
class _Header:
    sides: tuple[int, ...]
    steps: tuple[float, ...]
    dtype: np.dtype[np.generic]
    offset_bytes: int
    slope: float
    intercept: float


def read_nifti_contents(path: Path) -> NiftiContents:
    """Count the labels of a .nii or .nii.gz file.

    Raises:
        Exception: Any of `NIFTI_ERRORS`: the file is damaged, no NIfTI, or too large.
    """
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if is_packed else path.open("rb") as file:
        header, num_read = _read_header(file)
        if not num_read <= header.offset_bytes <= _MAX_OFFSET_BYTES:
            raise ValueError("the voxels begin at an impossible place")
        _read_exactly(file, header.offset_bytes - num_read)
        voxels = _count(file, header)
        # At its end a packed file is compared with its checksum.
        file.read(1)
    i, j, k = header.sides
    x, y, z = header.steps
    return NiftiContents(shape=(k, j, i), spacing_mm=(z, y, x), voxels=voxels)


def _read_header(file: _Stream) -> tuple[_Header, int]:
    start = _read_exactly(file, 4)
    for order in "<>":
        (size,) = struct.unpack(f"{order}i", start)
        if size == 348:
            return _parse_first(start + _read_exactly(file, 344), order), size
        if size == 540:
            return _parse_second(start + _read_exactly(file, 536), order), size
    raise ValueError("this is no NIfTI header")


def _parse_first(content: bytes, order: str) -> _Header:
    if content[344:348] != b"n+1\0":
        raise ValueError("the voxels of this header lie in another file")
    slope, intercept = struct.unpack_from(f"{order}2f", content, 112)
    return _to_header(
        dimensions=struct.unpack_from(f"{order}8h", content, 40),
        steps=struct.unpack_from(f"{order}8f", content, 76),
        dtype=(struct.unpack_from(f"{order}h", content, 70)[0], order),
        offset=struct.unpack_from(f"{order}f", content, 108)[0],
        scale=(slope, intercept),
    )


def _parse_second(content: bytes, order: str) -> _Header:
    if content[4:8] != b"n+2\0":
        raise ValueError("the voxels of this header lie in another file")
    slope, intercept = struct.unpack_from(f"{order}2d", content, 176)
    return _to_header(
        dimensions=struct.unpack_from(f"{order}8q", content, 16),
        steps=struct.unpack_from(f"{order}8d", content, 104),
        dtype=(struct.unpack_from(f"{order}h", content, 12)[0], order),
        offset=float(struct.unpack_from(f"{order}q", content, 168)[0]),
        scale=(slope, intercept),
    )


def _to_header(
    *,
    dimensions: tuple[int, ...],
    steps: tuple[float, ...],
    dtype: tuple[int, str],
    offset: float,
    scale: tuple[float, float],
) -> _Header:
    rank = dimensions[0]
    sides = (*dimensions[1 : rank + 1], 1, 1, 1)
    is_volume = 2 <= rank <= 7 and all(side == 1 for side in sides[3:])
    if not is_volume or not all(1 <= side <= _MAX_SIDE for side in sides[:3]):
        raise ValueError("this is no three-dimensional volume")
    if math.prod(sides[:3]) > _MAX_VOXELS:
        raise ValueError("the volume is larger than any CT of the abdomen")
    if dtype[0] not in _DTYPES:
        raise ValueError("the voxels are no plain numbers")
    if not all(map(math.isfinite, (offset, *scale, *steps[1:4]))):
        raise ValueError("the header holds a number that is none")
    return _Header(
        sides=sides[:3],
        steps=tuple(round(abs(step), 6) for step in steps[1:4]),
        dtype=np.dtype(f"{dtype[1]}{_DTYPES[dtype[0]]}"),
        offset_bytes=int(offset),
        # A slope of 0 means that the values are not scaled.
        slope=scale[0] or 1.0,
        intercept=scale[1] if scale[0] else 0.0,
    )


def _count(file: _Stream, header: _Header) -> dict[int, int] | None:
    """Read all voxels, so that a file that breaks off is found, mask or not."""
    i, j, k = header.sides
    counts = np.zeros(_MAX_LABEL + 1, np.int64)
    is_mask = True
    for _ in range(k):
        content = _read_exactly(file, i * j * header.dtype.itemsize)
        labels = _labels_of(content, header) if is_mask else None
        is_mask = labels is not None
        if labels is not None:
            counts += np.bincount(labels, minlength=counts.size)
    found = np.flatnonzero(counts)
    if not is_mask or found.size > _MAX_LABELS:
        return None
    return {int(label): int(counts[label]) for label in found if label}


def _labels_of(content: bytes, header: _Header) -> Shaped[np.ndarray, " voxel"] | None:
    with np.errstate(all="ignore"):
        values = np.frombuffer(content, header.dtype).astype(np.float64)
        values = values * header.slope + header.intercept
        is_label = (values >= 0) & (values <= _MAX_LABEL) & (values == np.rint(values))
    return values.astype(np.intp) if is_label.all() else None


def _read_exactly(file: _Stream, num_bytes: int) -> bytes:
    content = file.read(num_bytes)
    if len(content) != num_bytes:
        raise EOFError("the file breaks off")
    return content
