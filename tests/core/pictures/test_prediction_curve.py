import dataclasses
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from acfnet_core.pictures.prediction_curve import (
    CurveWithRange,
    ProjectedCurves,
    draw_prediction_curve,
)

HAZARD = np.linspace(0.14, 0.03, 16)


def _curve(values: NDArray[np.float64], *, width: float) -> CurveWithRange:
    if not width:
        return CurveWithRange(values=values)
    low, high = (np.clip(values * (1 + sign * width), 0, 1) for sign in (-1, 1))
    return CurveWithRange(values=values, lowest=low, highest=high)


def make_curves(
    *, supported_months: float | None = 66.0, width: float = 0.1
) -> ProjectedCurves:
    survival = np.cumprod(1 - HAZARD).astype(np.float64)
    return ProjectedCurves(
        bin_edges_months=tuple(6.0 * (k + 1) for k in range(16)),
        survival=_curve(survival, width=width),
        cumulative_incidence=_curve(1 - survival, width=width),
        hazard=_curve(HAZARD, width=width),
        supported_months=supported_months,
        counted_from="resection",
        range_words="bands: what they are" if width else "",
    )


def _pixels(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))


@pytest.fixture(scope="module")
def hatched() -> bytes:
    return draw_prediction_curve(make_curves())


def test_a_curve_is_the_same_bytes_at_every_call(hatched: bytes) -> None:
    assert draw_prediction_curve(make_curves()) == hatched


def test_a_picture_tells_neither_moment_nor_program(hatched: bytes) -> None:
    assert set(Image.open(BytesIO(hatched)).info) <= {"dpi"}


def test_time_that_training_had_nobody_for_looks_different(hatched: bytes) -> None:
    whole = draw_prediction_curve(make_curves(supported_months=96.0))
    differs = (_pixels(whole) != _pixels(hatched)).any(axis=(0, 2))
    first = np.flatnonzero(differs)[0] / len(differs)
    # The axis begins at about 0.08 of the width and ends at 0.82: 66 of 96 months.
    assert first == pytest.approx(0.08 + 0.74 * 66 / 96, abs=0.03)


def test_unknown_support_is_not_hatched() -> None:
    unknown = draw_prediction_curve(make_curves(supported_months=None))
    assert unknown == draw_prediction_curve(make_curves(supported_months=96.0))


def test_a_curve_without_a_range_is_drawn() -> None:
    assert draw_prediction_curve(make_curves(width=0.0)).startswith(b"\x89PNG")


def test_a_curve_of_another_number_of_bins_is_refused() -> None:
    short = CurveWithRange(values=HAZARD[:3])
    with pytest.raises(ValueError, match=r"shape \(3,\); expected one .* of 16 bins"):
        dataclasses.replace(make_curves(), hazard=short)
