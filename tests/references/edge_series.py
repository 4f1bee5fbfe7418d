"""The edge series: kinds of CT export that are odd, faulty or hostile, with their key.

A case writes its files into a folder and says what must come of them: the codes, or
the slices that are to be read, and both once more with every repair switched on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from references.edge_exports import (
    CHANGED,
    Write,
    add_litter,
    add_padding,
    add_private,
    add_scout,
    all_of,
    as_syntax,
    capture_of_many,
    claim_huge,
    compressed,
    concatenated,
    copy_a_file,
    copy_a_slice,
    cut,
    cut_header,
    cut_pixels,
    declare,
    drop_value,
    each_slice,
    enhanced,
    enhanced_cut,
    enhanced_parts,
    enhanced_twice,
    garbled,
    in_bits,
    in_frame,
    jitter,
    lose_the_first,
    no_number,
    plain_many_frames,
    rescale_alone,
    second_acquisition,
    set_value,
    share_a_uid,
    shift_one,
    shrink,
    two_series,
    with_folder,
    without_group,
)
from references.edge_files import swap_pixel_bytes
from references.edge_world import HEIGHTS_MM, NUM_SLICES

_TURN = float(np.sin(np.deg2rad(20))), float(np.cos(np.deg2rad(20)))
_TILT_15 = (0.0, float(np.tan(np.deg2rad(15))), 0.0)


@dataclass(frozen=True, kw_only=True)
class EdgeCase:
    """A kind of export.

    Attributes:
        write: Writes its files below a folder and returns the true slices of each
            series, whole, from the lowest to the highest.
        codes: The gate's, of the one series; none if it is accepted.
        mended: With every repair on: codes that are mended, or None if the series is
            refused all the same.
        decodes: Whether pixels of an accepted series can be decoded.
        num_broken: Files whose header cannot be read.
    """

    write: Write
    codes: tuple[str, ...] = ()
    mended: tuple[str, ...] | None = None
    decodes: bool = True
    num_broken: int = 0


_NO_UIDS = all_of(
    *(
        set_value(name, "")
        for name in (
            "SOPClassUID",
            "SOPInstanceUID",
            "SeriesInstanceUID",
            "StudyInstanceUID",
            "FrameOfReferenceUID",
        )
    )
)
_TWICE_WIDE = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 18.0, 22.0, 26.0)
_WITHOUT_5 = tuple(i for i in range(NUM_SLICES) if i != 5)
_WITHOUT_5_6 = tuple(i for i in range(NUM_SLICES) if i not in (5, 6))
_SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
_CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
_OBLIQUE = ((1.0, 0.0, 0.0), (0.0, _TURN[1], _TURN[0]))
_ROUNDED = ((0.9996, 0.02, 0.0), (-0.02, 0.9996, 0.0))


def _right(write: Write, **more: Any) -> EdgeCase:
    return EdgeCase(write=write, mended=(), **more)


def _no(code: str | tuple[str, ...], write: Write) -> EdgeCase:
    return EdgeCase(write=write, codes=(code,) if isinstance(code, str) else code)


def _mendable(code: str | tuple[str, ...], write: Write) -> EdgeCase:
    codes = (code,) if isinstance(code, str) else code
    return EdgeCase(write=write, codes=codes, mended=tuple(sorted(codes)))


RIGHT: dict[str, EdgeCase] = {
    "as it should be": _right(cut()),
    "files in reverse": _right(cut(keep=slice(None, None, -1))),
    "last slice missing": _right(cut(lose_the_first)),
    "5 micrometres of jitter": _right(cut(jitter)),
    "sagittal": _right(cut(directions=_SAGITTAL)),
    "coronal": _right(cut(directions=_CORONAL)),
    "row and column exchanged": _right(cut(directions=((0, 1, 0), (1, 0, 0)))),
    "prone": _right(cut(directions=((-1, 0, 0), (0, -1, 0)))),
    "oblique": _right(cut(directions=_OBLIQUE)),
    "cosines rounded": _right(
        cut(directions=_ROUNDED, heights_mm=[10.0 * i for i in range(40)])
    ),
    "pixels not square": _right(cut(pixel_spacing=(0.5, 3.5))),
    "instance numbers all 1": _right(cut(set_value("InstanceNumber", 1))),
    "lying slice location": _right(cut(set_value("SliceLocation", 7.0))),
    "thickness unlike spacing": _right(cut(set_value("SliceThickness", 1.0))),
    "lying spacing between slices": _right(
        cut(set_value("SpacingBetweenSlices", -9.0))
    ),
    "padding below air": _right(cut(each_slice(add_padding))),
    "private elements": _right(cut(each_slice(add_private))),
    "slope of a half": _right(cut(rescale=(0.5, -1024.0))),
    "slope with many digits": _right(cut(rescale=(1.373291, -1023.75))),
    "negative slope": _right(cut(rescale=(-1.0, 3000.0))),
    "another intercept in a slice": _right(cut(rescale_alone)),
    "12 bits, unsigned": _right(cut(in_bits(12, signed=False))),
    "12 bits, signed, not extended": _right(cut(in_bits(12, signed=True))),
    "12 bits and an old overlay above": _right(cut(in_bits(12, signed=False, high=1))),
    "implicit VR": _right(as_syntax(ImplicitVRLittleEndian)),
    "big endian": _right(as_syntax(ExplicitVRBigEndian, swap_pixel_bytes)),
    "RLE": _right(compressed(RLELossless)),
    "JPEG-LS": _right(compressed(JPEGLSLossless)),
    "JPEG 2000": _right(compressed(JPEG2000Lossless)),
    "JPEG 2000 of 12 bits": _right(compressed(JPEG2000Lossless, bits=12, signed=False)),
    "JPEG lossless": _right(compressed(JPEGLosslessSV1)),
    "JPEG lossless, unsigned": _right(compressed(JPEGLosslessSV1, signed=False)),
    "JPEG lossless, other name": _right(compressed(JPEGLossless)),
    "two series in a folder": _right(two_series),
    "scout of another modality": _right(with_folder(add_scout(same_series=False))),
    "other files in the folder": _right(with_folder(add_litter)),
    "a file twice": EdgeCase(
        write=with_folder(copy_a_file), codes=("SAME_INSTANCE_TWICE",), mended=()
    ),
    "enhanced": _right(enhanced()),
    "enhanced, frames out of order": _right(
        enhanced(order=(3, 1, 4, 0, 5, 9, 2, 6, 8, 7))
    ),
    "enhanced, oblique": _right(enhanced(directions=_OBLIQUE)),
    "enhanced, rescale of its own": _right(enhanced(before=rescale_alone)),
    "enhanced, slope with many digits": _right(enhanced(rescale=(1.373291, -1023.75))),
    "enhanced, 12 bits": _right(
        enhanced(
            lambda file: setattr(file, "PixelRepresentation", 1),
            before=in_bits(12, signed=True),
        )
    ),
    "enhanced, RLE": _right(enhanced(syntax=RLELossless)),
    "enhanced, JPEG-LS": _right(enhanced(syntax=JPEGLSLossless)),
    "enhanced, JPEG 2000": _right(enhanced(syntax=JPEG2000Lossless)),
    "enhanced, the file twice": EdgeCase(
        write=enhanced_twice, codes=("SAME_INSTANCE_TWICE",), mended=()
    ),
}
"""Accepted as they are."""

MENDABLE: dict[str, EdgeCase] = {
    "tilted gantry": _mendable("GANTRY_TILT", cut(drift=_TILT_15)),
    "slice missing": _mendable("MISSING_SLICES", cut(keep=_WITHOUT_5)),
    "tilt and slice missing": _mendable(
        ("MISSING_SLICES", "GANTRY_TILT"), cut(drift=_TILT_15, keep=_WITHOUT_5)
    ),
    "no UIDs": _mendable("EMPTY_UID", cut(_NO_UIDS)),
    "no study UID": _mendable("EMPTY_UID", cut(set_value("StudyInstanceUID", ""))),
    "no series UID": _mendable("EMPTY_UID", cut(set_value("SeriesInstanceUID", ""))),
    "no frame of reference": _mendable(
        "EMPTY_UID", cut(drop_value("FrameOfReferenceUID"))
    ),
    "tilt and no UIDs": _mendable(
        ("EMPTY_UID", "GANTRY_TILT"), cut(_NO_UIDS, drift=_TILT_15)
    ),
    "no patient identifier": _mendable(
        "NO_PATIENT_ID", cut(set_value("PatientID", ""))
    ),
    "a patient's name only": _mendable("NO_PATIENT_ID", cut(drop_value("PatientID"))),
    "enhanced, frame missing": _mendable("MISSING_SLICES", enhanced(order=_WITHOUT_5)),
    "enhanced, tilted": _mendable("GANTRY_TILT", enhanced(drift=_TILT_15)),
    "enhanced, no UIDs": _mendable(
        "EMPTY_UID", enhanced(lambda file: setattr(file, "SOPInstanceUID", ""))
    ),
}
"""Refused, and right where the site switches every repair on."""

REFUSED: dict[str, EdgeCase] = {
    "two neighbours missing": _no("MISSING_SLICES", cut(keep=_WITHOUT_5_6)),
    "spacing 2, then 4 mm": _no("NON_UNIFORM_SPACING", cut(heights_mm=_TWICE_WIDE)),
    "slices 0.05 mm apart": _no(
        "NON_UNIFORM_SPACING", cut(heights_mm=(*HEIGHTS_MM, HEIGHTS_MM[-1] + 0.05))
    ),
    "a slice shifted sideways": _no("GANTRY_TILT", cut(shift_one)),
    "a slice of another UID twice": _no(
        "DUPLICATE_POSITIONS", with_folder(copy_a_slice)
    ),
    "two acquisitions": _no("DUPLICATE_POSITIONS", with_folder(second_acquisition)),
    "one UID for two slices": _no(
        ("INSTANCE_CONFLICT", "MISSING_SLICES"), cut(share_a_uid)
    ),
    "scout in the series": _no(
        ("NOT_ORIGINAL_PRIMARY", "MIXED_ORIENTATION"),
        with_folder(add_scout(same_series=True)),
    ),
    "a scout alone": _no(
        "ONLY_LOCALIZER",
        cut(set_value("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    ),
    "a slice of another patient": _no(
        "MIXED_PATIENT", cut(set_value("PatientID", "Q", CHANGED))
    ),
    "a derived image": _no(
        "NOT_ORIGINAL_PRIMARY",
        cut(set_value("ImageType", ["DERIVED", "SECONDARY", "REFORMATTED"])),
    ),
    "a private class": _no(
        "NOT_ORIGINAL_PRIMARY", cut(set_value("SOPClassUID", "1.3.46"))
    ),
    "dark is high": _no(
        "NOT_ORIGINAL_PRIMARY",
        cut(set_value("PhotometricInterpretation", "MONOCHROME1")),
    ),
    "a slice without position": _no(
        "NO_IPP", cut(drop_value("ImagePositionPatient", CHANGED))
    ),
    "an empty position": _no(
        "NO_IPP", cut(set_value("ImagePositionPatient", None, CHANGED))
    ),
    "a position of one number": _no(
        "NO_IPP", cut(set_value("ImagePositionPatient", "104", CHANGED))
    ),
    "a position that is no number": _no(
        "NO_IPP", cut(no_number("ImagePositionPatient", ["1", "NaN", "2"]))
    ),
    "a position in the next town": _no(
        "NO_IPP", cut(set_value("ImagePositionPatient", ["1", "1e300", "2"], CHANGED))
    ),
    "axes at 80 degrees": _no(
        "NO_IPP",
        cut(set_value("ImageOrientationPatient", [1, 0, 0, 0.1736, 0.9848, 0])),
    ),
    "axes of no length": _no(
        "NO_IPP", cut(set_value("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]))
    ),
    "pixels of no size": _no("NO_IPP", cut(set_value("PixelSpacing", [0, 3]))),
    "a turned slice": _no(
        "MIXED_ORIENTATION",
        cut(set_value("ImageOrientationPatient", [0, 1, 0, -1, 0, 0], CHANGED)),
    ),
    "a finer slice": _no(
        "MIXED_PIXELSPACING", cut(set_value("PixelSpacing", [2.0, 3.001], CHANGED))
    ),
    "a smaller slice": _no("MIXED_SIZE", cut(each_slice(shrink, CHANGED))),
    "huge claim": _no(("TRUNCATED", "TOO_LARGE"), cut(each_slice(claim_huge))),
    "pixels cut off": _no("TRUNCATED", with_folder(cut_pixels)),
    "no rescale": _no("NO_RESCALE", cut(drop_value("RescaleSlope", CHANGED))),
    "slope of zero": _no("NO_RESCALE", cut(set_value("RescaleSlope", 0, CHANGED))),
    "slope that is no number": _no("NO_RESCALE", cut(no_number("RescaleSlope", "NaN"))),
    "another unit than HU": _no("NO_RESCALE", cut(set_value("RescaleType", "Z_EFF"))),
    "lossy once": _no("LOSSY", cut(set_value("LossyImageCompression", "01", CHANGED))),
    "nearly lossless": _no("LOSSY", compressed(JPEGLSNearLossless)),
    "two frames of reference": _no(
        "MIXED_FRAME_OF_REFERENCE",
        cut(set_value("FrameOfReferenceUID", "1.2.3", CHANGED)),
    ),
    "burned-in text": _no("BURNED_IN", cut(set_value("BurnedInAnnotation", "YES"))),
    "a slice without modality": EdgeCase(
        write=cut(drop_value("Modality", CHANGED)),
        codes=("BROKEN_NEIGHBOUR", "MISSING_SLICES"),
        num_broken=1,
    ),
    "a header cut off": EdgeCase(
        write=with_folder(cut_header),
        codes=("BROKEN_NEIGHBOUR", "MISSING_SLICES"),
        num_broken=1,
    ),
    "little endian called big": EdgeCase(
        write=with_folder(declare(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")),
        codes=("BROKEN_NEIGHBOUR", "MISSING_SLICES"),
        num_broken=1,
    ),
    "one slice": _no("TOO_FEW_SLICES", cut(keep=slice(1))),
    "slices far apart": _no(
        "THICK_SLICES", cut(heights_mm=[12.0 * i for i in range(5)])
    ),
    "plain class with many frames": _no("MULTI_FRAME", cut(plain_many_frames)),
    "secondary capture with many frames": _no("MULTI_FRAME", enhanced(capture_of_many)),
    "enhanced in two files": _no("MULTI_FRAME", enhanced_parts),
    "enhanced, two stacks": _no(
        "MULTI_FRAME",
        enhanced(in_frame("FrameContentSequence", "StackID", "2", slice(5, None))),
    ),
    "enhanced, two times": _no(
        "MULTI_FRAME",
        enhanced(
            in_frame("FrameContentSequence", "TemporalPositionIndex", 2, slice(5, 6))
        ),
    ),
    "enhanced, part of a whole": _no("MULTI_FRAME", enhanced(concatenated)),
    "enhanced, frames not described": _no(
        "MULTI_FRAME", enhanced(lambda file: setattr(file, "NumberOfFrames", 11))
    ),
    "enhanced, spacing 2, then 4 mm": _no(
        "NON_UNIFORM_SPACING", enhanced(heights_mm=_TWICE_WIDE)
    ),
    "enhanced, a frame twice": _no(
        "DUPLICATE_POSITIONS", enhanced(order=(*range(NUM_SLICES), 4))
    ),
    "enhanced, no position": _no(
        "NO_IPP", enhanced(without_group("PlanePositionSequence"))
    ),
    "enhanced, no rescale": _no(
        "NO_RESCALE", enhanced(without_group("PixelValueTransformationSequence"))
    ),
    "enhanced, a derived frame": _no(
        "NOT_ORIGINAL_PRIMARY",
        enhanced(
            in_frame(
                "CTImageFrameTypeSequence",
                "FrameType",
                ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"],
                CHANGED,
            )
        ),
    ),
    "enhanced, lossy": _no(
        "LOSSY", enhanced(lambda file: setattr(file, "LossyImageCompression", "01"))
    ),
    "enhanced, cut off": _no("TRUNCATED", enhanced_cut),
}
"""Refused by their headers, repairs or not."""

UNDECODABLE: dict[str, EdgeCase] = {
    "garbled JPEG-LS": _right(garbled(JPEGLSLossless), decodes=False),
    "garbled JPEG 2000": _right(garbled(JPEG2000Lossless), decodes=False),
    "garbled JPEG lossless": _right(garbled(JPEGLosslessSV1), decodes=False),
    "enhanced, JPEG lossless": _right(enhanced(syntax=JPEGLosslessSV1), decodes=False),
    "12 bits in the middle": _right(
        cut(all_of(in_bits(12, signed=False), set_value("HighBit", 13))), decodes=False
    ),
    "uncompressed called RLE": _right(
        with_folder(declare(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")),
        decodes=False,
    ),
}
"""Accepted by their headers, and refused on reading."""

UNREADABLE: dict[str, EdgeCase] = {
    "deflated": EdgeCase(
        write=as_syntax(DeflatedExplicitVRLittleEndian), num_broken=NUM_SLICES
    ),
    "no modality": EdgeCase(write=cut(drop_value("Modality")), num_broken=NUM_SLICES),
}
"""No series at all: no file's header can be read."""

EDGE_CASES = {**RIGHT, **MENDABLE, **REFUSED, **UNDECODABLE}
"""Every case that makes a series."""
