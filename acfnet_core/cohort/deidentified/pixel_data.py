"""The pixels of a copy: the same values, and no byte beside them.

Pixels are not decoded. Uncompressed ones are cut to the length that the header asks
for; compressed frames stay compressed, one fragment each, and lose what is no image.
"""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from acfnet_core.cohort.deidentified.codestream import (
    strip_jpeg,
    strip_jpeg_2000,
    strip_run_lengths,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError

_REWRITTEN = (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_PLAIN = (ExplicitVRLittleEndian, ExplicitVRBigEndian)
_BITS_PER_BYTE = 8
_BITS_OF_WORD = 16


def syntax_of_copy(source: str) -> UID:
    """Return the transfer syntax in which a copy is written.

    It is the source's; of implicit and deflated files, the explicit little endian one,
    in which pixels have the same bytes.

    Raises:
        ValueError: The syntax is none of those that can be cleaned.
    """
    syntax = UID(source)
    if syntax in _REWRITTEN:
        return ExplicitVRLittleEndian
    known = (*_PLAIN, RLELossless, *JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
    if syntax not in (*known, *JPEG2000TransferSyntaxes):
        raise ValueError("frames of this transfer syntax cannot be cleaned")
    return syntax


def copy_pixels(source: Any, target: Dataset, syntax: UID) -> None:
    """Give `target` the pixels of `source`.

    Args:
        source: A file that pydicom has read.
        target: The copy, whose description of the pixels is complete.
        syntax: What `syntax_of_copy` says.

    Raises:
        ValueError: The pixels are fewer than the header says, or no such frames.
        ScanRefusedError: `BURNED_IN`: bits that are not in use hold something.
    """
    num_frames = int(target.get("NumberOfFrames", 1))
    if syntax.is_encapsulated:
        content = _copy_frames(source.PixelData, target, syntax, num_frames)
    else:
        content = _cut(source.PixelData, target, num_frames)
        _refuse_hidden_bits(content, target, syntax)
    target.PixelData = content
    is_bytes = syntax.is_encapsulated or target.BitsAllocated <= _BITS_PER_BYTE
    target["PixelData"].VR = "OB" if is_bytes else "OW"
    target["PixelData"].is_undefined_length = syntax.is_encapsulated


def _cut(content: bytes, target: Dataset, num_frames: int) -> bytes:
    num_values = (
        target.Rows * target.Columns * target.get("SamplesPerPixel", 1) * num_frames
    )
    num_bytes, num_bits = divmod(num_values * target.BitsAllocated, _BITS_PER_BYTE)
    needed = num_bytes + bool(num_bits)
    if len(content) < needed:
        raise ValueError("the pixels break off")
    cut = bytearray(content[:needed])
    if num_bits:
        # Of the last byte of single-bit frames the low bits are in use.
        cut[-1] &= (1 << num_bits) - 1
    return bytes(cut) + b"\0" * (needed % 2)


def _refuse_hidden_bits(content: bytes, target: Dataset, syntax: UID) -> None:
    """Refuse words with an overlay in their unused bits, as older scanners wrote it."""
    stored = int(target.BitsStored)
    if target.BitsAllocated != _BITS_OF_WORD or stored >= _BITS_OF_WORD:
        return
    order = "<" if syntax.is_little_endian else ">"
    words = np.frombuffer(content, f"{order}u2")
    above = words >> stored
    if target.PixelRepresentation:
        # A negative number is continued with ones, or not at all.
        is_negative = (words >> (stored - 1)) & 1 == 1
        above = np.where(
            is_negative & (above == (1 << (_BITS_OF_WORD - stored)) - 1), 0, above
        )
    if above.any():
        raise ScanRefusedError("BURNED_IN")


def _copy_frames(
    content: bytes, target: Dataset, syntax: UID, num_frames: int
) -> bytes:
    num_bytes = target.Rows * target.Columns
    frames = []
    for frame in generate_frames(content, number_of_frames=num_frames):
        if syntax == RLELossless:
            frames.append(strip_run_lengths(frame, num_bytes=num_bytes))
        elif syntax in JPEG2000TransferSyntaxes:
            frames.append(strip_jpeg_2000(frame))
        else:
            frames.append(strip_jpeg(frame))
    if len(frames) != num_frames:
        raise ValueError("the frames are not as many as the header says")
    return encapsulate(frames, has_bot=False)
