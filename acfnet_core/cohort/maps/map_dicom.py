"""A year's risk map as a DICOM parametric map over its CT.

One file and one series for each year: viewers list a series by its description and
stack it by itself. The file holds the slices from the first to the last that the map
reaches. UIDs are new at every call.

What is written here holds the patient's identity, as the CT does: it stays at the site.
"""

import copy
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from jaxtyping import Float32
from pydicom import Dataset

from acfnet_core import __version__
from acfnet_core.cohort.images.dicom_index import READ_ERRORS, quiet_dicom
from acfnet_core.errors import DataError
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically

_SERIES_NUMBER = 9000
_CODING_SCHEME = "99ACFNET"
_MAY_BE_ABSENT = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientName",
    "PatientSex",
    "PositionReferenceIndicator",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
"""Attributes that may be empty but must be there; archives lose them all the same."""


def write_parametric_map(
    path: Path,
    density: Float32[np.ndarray, "slice row column"],
    sources: Sequence[Dataset],
    *,
    year: int,
) -> None:
    """Write one year's map as one multi-frame file, a series of its own.

    Args:
        path: The file; its folder is made, private, if it does not exist.
        density: One year of what `lay_on_series` returns.
        sources: The CT's headers in the order of the slices, from
            `scan_source.read_source_headers`.
        year: Counted from 1.

    Raises:
        DataError: `data.series_refused`: the CT's headers cannot be carried over.
        MachineError: The file cannot be written.
        ValueError: The map is not finite or has not the shape of the series.
    """
    check_map(density, sources, year=year)
    part = covered_slices(density)
    with carrying_over(path):
        dataset = highdicom.pm.ParametricMap(
            source_images=_even_headers(sources, part),
            pixel_array=np.ascontiguousarray(density[part]),
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER + year,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping_of(density, year)],
            voi_lut_transformations=[_window_of(density)],
            content_label=f"RISK_YEAR_{year}",
            content_description=f"Attribution of the image logit, year {year}",
            content_qualification="RESEARCH",
            image_flavor="VOLUME",
            derived_pixel_contrast="QUANTITY",
            series_description=describe_series("risk map", year),
            **origin(),
        )
        # The standard wants this element, if only empty; highdicom 0.28 leaves it out.
        dataset.ContentCreatorName = None
    write_dataset(path, dataset)


def check_map(
    density: Float32[np.ndarray, "slice row column"],
    sources: Sequence[Dataset],
    *,
    year: int,
) -> None:
    """Check that a map can be exported over its CT.

    Raises:
        ValueError: It is not finite, has not the shape of the series, or the year is
            below 1.
    """
    shape = (len(sources), int(sources[0].Rows), int(sources[0].Columns))
    if density.shape != shape:
        raise ValueError(f"the map has shape {density.shape}, its series {shape}")
    if not np.isfinite(density).all():
        raise ValueError("the map has values that are not finite")
    if year < 1:
        raise ValueError(f"years count from 1, got {year}")


def covered_slices(density: Float32[np.ndarray, "slice row column"]) -> slice:
    """Return the slices from the first to the last with a value; all if there is none.

    They have no gap, so that a viewer can stack them.
    """
    used = np.flatnonzero(density.any(axis=(1, 2)))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(len(density))


def complete_header(source: Dataset) -> Dataset:
    """Return a copy of a header with what must be there, if only empty."""
    # A copy of the elements alone would lose the character set of its names.
    complete = copy.deepcopy(source)
    for name in _MAY_BE_ABSENT:
        if name not in complete:
            setattr(complete, name, "")
    return complete


def describe_series(what: str, year: int) -> str:
    """Return the description by which viewers list a series."""
    return f"RESEARCH ONLY acfnet {what} year {year}"


def origin() -> dict[str, str]:
    """Return what made the file and how, as highdicom's constructors take it."""
    return {
        # Every name can be written in it; some archives declare an empty one.
        "specific_character_set": "ISO_IR 192",
        "manufacturer": "acfnet",
        "manufacturer_model_name": "acfnet",
        "software_versions": __version__,
        "device_serial_number": "not applicable",
    }


def slice_spacing_of(sources: Sequence[Dataset]) -> float:
    """Return the mean distance in mm between the slices of an accepted series."""
    first, last = (np.array(sources[i].ImagePositionPatient, float) for i in (0, -1))
    return float(np.linalg.norm(last - first)) / (len(sources) - 1)


@contextmanager
def carrying_over(path: Path) -> Iterator[None]:
    """Turn what highdicom raises on odd headers into an error without their values.

    Raises:
        DataError: `data.series_refused`.
    """
    try:
        with quiet_dicom():
            yield
    except READ_ERRORS as error:
        raise DataError(
            "data.series_refused",
            f"{path}: was not written: the headers of the CT cannot be carried over "
            f"to a new series ({type(error).__name__}).",
            remedy="Have the archive correct the headers of this series, prepare the "
            "data again and repeat the command.",
        ) from None


def write_dataset(path: Path, dataset: Any) -> None:
    """Write a DICOM file that only its owner may read.

    Raises:
        DataError: `data.series_refused`: an element cannot be encoded.
        MachineError: The file cannot be written.
    """
    content = io.BytesIO()
    with carrying_over(path):
        dataset.save_as(content, enforce_file_format=True)
    make_folder(path.parent, private=True)
    write_atomically(path, content.getvalue(), mode=PRIVATE_MODE)


def _mapping_of(density: Float32[np.ndarray, "slice row column"], year: int) -> Any:
    low, high = float(min(density.min(), 0)), float(max(density.max(), 0))
    return highdicom.pm.RealWorldValueMapping(
        lut_label=f"RISK_YEAR_{year}",
        lut_explanation="image logit per millilitre; its integral is the year's logit",
        unit=highdicom.sr.CodedConcept("1/mL", "UCUM", "per millilitre"),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=highdicom.sr.CodedConcept(
            "RISK-DENSITY", _CODING_SCHEME, "Density of the attributed image logit"
        ),
    )


def _window_of(density: Float32[np.ndarray, "slice row column"]) -> Any:
    widest = float(np.abs(density).max())
    return highdicom.VOILUTTransformation(
        window_center=[0.0],
        window_width=[2 * widest or 1.0],
        window_explanation=["zero is mid-grey"],
        # The plain linear function does not allow widths below 1.
        voi_lut_function="LINEAR_EXACT",
    )


def _even_headers(sources: Sequence[Dataset], part: slice) -> list[Dataset]:
    """Return headers that agree in every digit on what the gate found to be even."""
    spacing_mm = f"{slice_spacing_of(sources):.6g}"
    headers = [complete_header(source) for source in sources[part]]
    for header in headers:
        header.ImageOrientationPatient = sources[0].ImageOrientationPatient
        header.SpacingBetweenSlices = spacing_mm
        if header.get("SliceThickness") is None:
            header.SliceThickness = spacing_mm
    return headers
