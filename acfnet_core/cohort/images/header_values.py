"""Values of a DICOM header as plain ones; what is absent has a value of its own here.

What cannot be one raises, as any of `dicom_index.READ_ERRORS`.
"""

import math
from typing import Any

from pydicom.multival import MultiValue


def text_of(dataset: Any, name: str) -> str:
    """Return a text without the spaces around it, "" if there is none."""
    return str(dataset.get(name, "") or "").strip()


def integer_of(dataset: Any, name: str, default: int = 0) -> int:
    """Return a whole number, or `default` if there is none."""
    value = dataset.get(name)
    return default if value is None else int(value)


def numbers_of(dataset: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers of an element, None if there are not `count`."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    parts = value if isinstance(value, MultiValue | list) else [value]
    numbers = tuple(float(part) for part in parts)
    return numbers if len(numbers) == count else None


def number_of(dataset: Any, name: str) -> float | None:
    """Return a number that nothing depends on; what cannot be one is none."""
    try:
        numbers = numbers_of(dataset, name, 1)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return numbers[0] if numbers and math.isfinite(numbers[0]) else None


def is_in_hu(dataset: Any) -> bool:
    """Tell whether slope and intercept turn stored values into Hounsfield units."""
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return False
    # Another type than HU is another unit, as in images of two energies.
    is_hu = text_of(dataset, "RescaleType").upper() in ("", "HU")
    is_finite = math.isfinite(float(slope)) and math.isfinite(float(intercept))
    return is_hu and is_finite and float(slope) != 0


def named_series_of(dataset: Any) -> tuple[str, ...]:
    """Return the UIDs of the series that a segmentation says it was drawn on."""
    items = dataset.get("ReferencedSeriesSequence", None) or ()
    return tuple(str(item.get("SeriesInstanceUID", "")) for item in items)


def segment_labels_of(dataset: Any) -> tuple[str, ...]:
    """Return the labels of a segmentation's segments."""
    items = dataset.get("SegmentSequence", None) or ()
    return tuple(str(item.get("SegmentLabel", "")) for item in items)
