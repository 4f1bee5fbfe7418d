import dataclasses
from functools import cache
from io import BytesIO
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from acfnet_core.pictures.axial_view import view_axially
from acfnet_core.pictures.scan_panels import (
    ScanOfPatient,
    draw_scan_panels,
    shown_years,
)

SIZE_MM = (120.0, 200.0, 300.0)
"""Extent of the made-up patient along (z, y, x)."""


def make_scan(
    *, shape: tuple[int, int, int] = (2, 40, 60), sign: float = 1.0
) -> ScanOfPatient:
    """A body with a liver on the patient's right and a map on its tumour."""
    _, rows, columns = np.meshgrid(
        *(np.linspace(-1, 1, n) for n in shape), indexing="ij"
    )
    body = rows**2 + columns**2 < 0.9
    liver = rows**2 + (columns + 0.4) ** 2 < 0.2
    tumour = rows**2 + (columns + 0.4) ** 2 < 0.01
    near = np.exp(-(rows**2 + (columns + 0.4) ** 2) / 0.05)
    return ScanOfPatient(
        ct_hu=np.where(liver, 110.0, np.where(body, 40.0, -1000.0)).astype(np.float32),
        liver=liver.astype(np.uint8),
        tumour=tumour.astype(np.uint8),
        maps=(sign * np.stack([near, near])).astype(np.float32),
        slice_numbers=tuple(range(1, shape[0] + 1)),
        num_slices=30,
        spacing_mm=(5.0, SIZE_MM[1] / shape[1], SIZE_MM[2] / shape[2]),
        window_hu=(-60.0, 180.0),
        years=(1, 2),
        survival=(0.9, 0.8),
        heading="Risk maps",
    )


def _affine(order: tuple[int, ...], signs: tuple[int, ...]) -> NDArray[np.float64]:
    """A series whose axis i runs along patient axis order[i], spacing 2, 3 and 5 mm."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (along, sign) in enumerate(zip(order, signs, strict=True)):
        affine[along, axis] = sign * (2.0, 3.0, 5.0)[axis]
    return affine


@given(
    st.sampled_from(list(permutations(range(3)))),
    st.sampled_from(list(product((1, -1), repeat=3))),
)
@settings(deadline=None, max_examples=30)
def test_any_direction_is_turned_to_the_axes_of_the_patient(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    affine = _affine(order, signs)
    indices = np.stack(np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"), -1)
    places = np.moveaxis(indices @ affine[:3, :3].T, -1, 0)
    x, y, z = view_axially(affine).turn(places)
    assert (np.diff(z, axis=0) > 0).all()
    assert (np.diff(y, axis=1) > 0).all()
    assert (np.diff(x, axis=2) > 0).all()


def test_spacing_is_turned_with_the_axes() -> None:
    view = view_axially(_affine((0, 2, 1), (1, -1, 1)))
    assert view.spacing_mm == (3.0, 5.0, 2.0)


def test_an_ordinary_axial_series_is_shown_as_it_is() -> None:
    volume = np.arange(24).reshape(2, 3, 4)
    turned = view_axially(_affine((2, 1, 0), (1, 1, 1))).turn(volume)
    assert np.array_equal(turned, volume)


def test_an_oblique_series_keeps_its_three_axes_apart() -> None:
    affine = np.eye(4)
    affine[:3, 0] = (0.55, 0.55, 0.63)
    affine[:3, 1] = (-0.45, 0.84, -0.3)
    affine[:3, 2] = (0.7, 0.1, -0.71)
    assert sorted(view_axially(affine).order) == [0, 1, 2]


def _picture(scan: ScanOfPatient) -> NDArray[np.uint8]:
    picture = Image.open(BytesIO(draw_scan_panels(scan))).convert("RGB")
    return np.asarray(picture)


@cache
def _panels(sign: float) -> bytes:
    """Draw the made-up scan, whose map raises or lowers, once."""
    return draw_scan_panels(make_scan(sign=sign))


def test_panels_are_the_same_bytes_at_every_call() -> None:
    assert draw_scan_panels(make_scan()) == _panels(1.0)


def _size_of_panel(picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of the first panel that is warm all over."""
    warm = picture[..., 0].astype(int) - picture[..., 2] > 100
    rows = np.flatnonzero(warm.sum(axis=1) > 50)
    height = int(np.argmax(np.append(np.diff(rows), 99) > 1)) + 1
    return height, int(warm[rows[height // 2]].sum())


@pytest.mark.parametrize("shape", [(1, 20, 60), (1, 40, 30)])
def test_voxels_of_any_shape_keep_the_patient_s_proportions(
    shape: tuple[int, int, int],
) -> None:
    scan = make_scan(shape=shape)
    everywhere = dataclasses.replace(
        scan, maps=np.ones_like(scan.maps), ct_hu=np.zeros_like(scan.ct_hu)
    )
    height, width = _size_of_panel(_picture(everywhere))
    assert width / height == pytest.approx(SIZE_MM[2] / SIZE_MM[1], rel=0.03)


def _has_colour(picture: NDArray[np.uint8], *, warm: bool) -> bool:
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    above = picture.shape[0] * 3 // 4
    difference = (red - blue if warm else blue - red)[:above]
    return bool((difference > 80).sum() > 200)


@pytest.mark.parametrize("warm", [True, False])
def test_what_raises_is_warm_and_what_lowers_is_cold(warm: bool) -> None:
    picture = Image.open(BytesIO(_panels(1.0 if warm else -1.0))).convert("RGB")
    assert _has_colour(np.asarray(picture), warm=warm)


def test_raising_and_lowering_differ_in_grey_print() -> None:
    raising, lowering = (
        np.asarray(Image.open(BytesIO(_panels(sign))).convert("L")).astype(int)
        for sign in (1.0, -1.0)
    )
    assert (np.abs(raising - lowering) > 100).sum() > 100


def test_a_map_that_is_zero_is_drawn() -> None:
    assert draw_scan_panels(make_scan(sign=0.0)).startswith(b"\x89PNG")


def test_years_that_are_not_shown_leave_the_last() -> None:
    assert shown_years((4, 6, 7)) == [2]


def test_the_shown_years_are_found_by_their_place() -> None:
    assert shown_years((1, 2, 3, 4, 5)) == [0, 1, 2, 4]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes do not fit: 1 years, 2 slices"):
        dataclasses.replace(make_scan(), years=(1,))
