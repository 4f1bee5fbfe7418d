"""A year's risk map over its CT as colour images that any DICOM viewer opens.

One Secondary Capture image for each slice that the map reaches, with the slice's place
in patient space (a standard extension of that kind of image, so that viewers sort the
slices). The pixels of the CT keep their rows and columns; the legend stands in a strip
below them and hides nothing. UIDs are new at every call.

What is written here holds the patient's identity, as the CT does: it stays at the site.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from acfnet_core.cohort.maps.map_dicom import (
    carrying_over,
    check_map,
    complete_header,
    covered_slices,
    describe_series,
    origin,
    slice_spacing_of,
    write_dataset,
)

# Vermillion and blue of Okabe and Ito's palette: apart for every kind of colour vision.
_RAISES = (213, 94, 0)
_LOWERS = (0, 114, 178)
_INK = (255, 255, 255)
_MAX_OPACITY = 0.6
_FONT_SIZE = 12
_LINE_HEIGHT = 16
_MARGIN = 4
_SWATCH = 10
_SERIES_NUMBER = 9100


def scale_of(density: Float32[np.ndarray, "*axes"]) -> float:
    """Return the greatest absolute density, the one shown in full colour; 1 if it is 0.

    Give it all years at once, so that their overlays can be compared.
    """
    return float(np.abs(density).max(initial=0.0)) or 1.0


def write_overlay(
    folder: Path,
    ct_hu: Shaped[np.ndarray, "slice row column"],
    density: Float32[np.ndarray, "slice row column"],
    sources: Sequence[Dataset],
    *,
    year: int,
    scale: float,
    window_hu: tuple[float, float] = (60.0, 400.0),
) -> tuple[Path, ...]:
    """Write one year's map over its CT, one Secondary Capture image a slice.

    Args:
        folder: Made, private, if it does not exist; files are `slice-001.dcm`, ...,
            numbered as the slices of the CT are. Use one folder a year.
        ct_hu: The series' voxels, `SeriesVolume.hu`.
        density: One year of what `lay_on_series` returns.
        sources: The CT's headers in the order of the slices, from
            `scan_source.read_source_headers`.
        year: Counted from 1.
        scale: The density, in logit per millilitre, that gets full colour; the same
            for all years, see `scale_of`.
        window_hu: Centre and width of the CT's grey window.

    Returns:
        The files, in the order of the slices.

    Raises:
        DataError: `data.series_refused`: the CT's headers cannot be carried over.
        MachineError: A file cannot be written.
        ValueError: The map is not finite or has not the shape of the series, or the
            scale or the window's width is not positive.
    """
    check_map(density, sources, year=year)
    if scale <= 0 or window_hu[1] <= 0:
        raise ValueError(
            f"scale and the window's width must be positive, got {scale} and "
            f"{window_hu[1]}"
        )
    legend = draw_legend(ct_hu.shape[2], year=year, scale=scale)
    series_uid, spacing_mm = highdicom.UID(), slice_spacing_of(sources)
    paths = []
    for index in range(*covered_slices(density).indices(len(density))):
        shown = blend(ct_hu[index], density[index], scale=scale, window_hu=window_hu)
        path = folder / f"slice-{index + 1:03}.dcm"
        with carrying_over(path):
            image = _to_capture(
                np.concatenate([shown, legend]),
                complete_header(sources[index]),
                series_uid=series_uid,
                number=index + 1,
                year=year,
            )
            _place(image, sources[index], spacing_mm)
        write_dataset(path, image)
        paths.append(path)
    return tuple(paths)


def blend(
    ct_hu: Shaped[np.ndarray, "row column"],
    density: Float32[np.ndarray, "row column"],
    *,
    scale: float,
    window_hu: tuple[float, float],
) -> UInt8[np.ndarray, "row column 3"]:
    """Lay a map's colours over the windowed CT: vermillion raises, blue lowers.

    The window is given by centre and width. Opacity grows with the absolute density
    up to `scale`; where the map is zero the CT's grey is untouched.
    """
    centre, width = window_hu
    grey = np.clip((ct_hu.astype(np.float32) - centre) / width + 0.5, 0, 1) * 255
    opacity = np.clip(np.abs(density) / scale, 0, 1)[..., None] * _MAX_OPACITY
    colour = np.where(density[..., None] > 0, np.array(_RAISES), np.array(_LOWERS))
    mixed = np.rint(grey)[..., None] * (1 - opacity) + colour * opacity
    return np.rint(mixed).astype(np.uint8)


def draw_legend(
    num_columns: int, *, year: int, scale: float
) -> UInt8[np.ndarray, "row column 3"]:
    """Return the strip that says what the colours are, and what they are not."""
    font = ImageFont.load_default(size=_FONT_SIZE)
    text = (
        f"RESEARCH ONLY: attribution of the model's image logit, year {year}; "
        "not a forecast of where a recurrence appears"
    )
    keys = {
        _RAISES: f"raises the risk (full at {scale:.2g} logit/ml)",
        _LOWERS: "lowers the risk",
    }
    lines: list[tuple[str, tuple[int, int, int] | None]] = []
    room = num_columns - 2 * _MARGIN
    lines += [(line, None) for line in _wrap(text, font, room)]
    for colour, meaning in keys.items():
        wrapped = _wrap(meaning, font, room - _SWATCH - _MARGIN)
        lines += [(line, colour) for line in wrapped]
    strip = Image.new("RGB", (num_columns, len(lines) * _LINE_HEIGHT + 2 * _MARGIN))
    draw = ImageDraw.Draw(strip)
    for number, (line, swatch) in enumerate(lines):
        x, y = _MARGIN, _MARGIN + number * _LINE_HEIGHT
        if swatch is not None:
            draw.rectangle((x, y + 2, x + _SWATCH, y + 2 + _SWATCH), fill=swatch)
            x += _SWATCH + _MARGIN
        draw.text((x, y), line, font=font, fill=_INK)
    return np.asarray(strip)


def _wrap(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int
) -> list[str]:
    """Break a text into lines of at most `room` pixels; a long word keeps its line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _to_capture(
    pixels: UInt8[np.ndarray, "row column 3"],
    source: Dataset,
    *,
    series_uid: str,
    number: int,
    year: int,
) -> Any:
    image = highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=source,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series_uid,
        series_number=_SERIES_NUMBER + year,
        sop_instance_uid=highdicom.UID(),
        instance_number=number,
        pixel_spacing=tuple(float(mm) for mm in source.PixelSpacing),
        patient_orientation=_patient_orientation(source),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=describe_series("overlay", year),
        **origin(),
    )
    image.copy_patient_and_study_information(source)
    image.BurnedInAnnotation = "YES"
    image.LossyImageCompression = "00"
    image.DerivationDescription = (
        f"Attribution of the model's image logit, year {year}, over the CT; "
        "research only; not a forecast of where a recurrence appears"
    )
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [
        highdicom.sr.CodedConcept(
            "121322", "DCM", "Source image for image processing operation"
        )
    ]
    image.SourceImageSequence = [reference]
    return image


def _place(image: Any, source: Dataset, slice_spacing_mm: float) -> None:
    """Give an image its slice's place in patient space."""
    orientation = np.array(source.ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    height = float(normal @ np.array(source.ImagePositionPatient, float))
    image.FrameOfReferenceUID = source.FrameOfReferenceUID
    image.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    image.ImagePositionPatient = source.ImagePositionPatient
    image.ImageOrientationPatient = source.ImageOrientationPatient
    image.SliceThickness = f"{slice_spacing_mm:.6g}"
    image.SpacingBetweenSlices = f"{slice_spacing_mm:.6g}"
    image.SliceLocation = f"{height:.6f}"


def _patient_orientation(source: Dataset) -> tuple[str, str]:
    """Return the nearest direction of patient space of the rows and of the columns."""
    letters = np.array([["R", "L"], ["A", "P"], ["F", "H"]])
    directions = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    row, column = (
        str(letters[axis := int(np.abs(one).argmax()), int(one[axis] > 0)])
        for one in directions
    )
    return row, column
