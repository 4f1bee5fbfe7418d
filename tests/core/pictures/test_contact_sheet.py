import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from acfnet_core.pictures.contact_sheet import (
    LARGEST_LOSSLESS_VOXELS,
    TILE_STYLE,
    TileScan,
    draw_tile,
)

GRID = (6, 12, 10)
NO_MASK = np.zeros(GRID, np.bool_)


def make_scan(
    liver: NDArray[np.bool_] = NO_MASK, tumour: NDArray[np.bool_] = NO_MASK
) -> TileScan:
    """A scan whose Hounsfield units grow by 10 with every place on every axis."""
    depth, height, width = np.indices(GRID)
    return TileScan(
        ct_hu=(10 * (depth + height + width)).astype(np.int16),
        liver=liver,
        tumour=tumour,
        spacing_mm=(6.0, 5.0, 4.0),
        window_hu=(0.0, 255.0),
    )


def box(*sides: slice) -> NDArray[np.bool_]:
    mask = NO_MASK.copy()
    mask[sides] = True
    return mask


def pictures_of(svg: str) -> list[NDArray[np.uint8]]:
    """Decode the axial, the coronal and the sagittal picture."""
    found = re.findall(r'href="data:image/\w+;base64,([^"]+)"', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(f)))) for f in found]


def outline_of(svg: str, name: str) -> NDArray[np.int64]:
    """Return the corners (x, y) of the one line of a contour, in half voxels."""
    found = re.search(rf'id="{name}"[^>]* d="M(-?\d+) (-?\d+)l([^z]*)z"', svg)
    assert found is not None
    start = np.array([[int(found[1]), int(found[2])]])
    steps = np.array(found[3].split(), np.int64).reshape(-1, 2)
    return np.concatenate([start, start + np.cumsum(steps, axis=0)])


def test_each_plane_goes_where_most_of_the_tumour_is() -> None:
    tumour = box(slice(2, 3), slice(3, 6), slice(4, 7))
    tumour[3, 4, 5] = True
    axial, coronal, sagittal = pictures_of(
        draw_tile(make_scan(~NO_MASK, tumour), "t", "")
    )
    assert axial[0, 0] == 10 * 2
    assert coronal[-1, 0] == 10 * 4
    assert sagittal[-1, 0] == 10 * 5


def test_without_a_tumour_the_planes_go_where_most_of_the_liver_is() -> None:
    liver = box(slice(4, 5), slice(2, 8), slice(3, 4))
    axial, _, sagittal = pictures_of(draw_tile(make_scan(liver), "t", ""))
    assert (axial[0, 0], sagittal[-1, 0]) == (40, 30)


def test_a_scan_without_any_mask_is_cut_in_the_middle_and_has_no_contour() -> None:
    svg = draw_tile(make_scan(), "t", "")
    assert pictures_of(svg)[0][0, 0] == 10 * (GRID[0] // 2)
    assert "<path" not in svg


def test_the_head_is_above_in_coronal_and_sagittal_planes() -> None:
    _, coronal, sagittal = pictures_of(draw_tile(make_scan(), "t", ""))
    assert (np.diff(coronal.astype(int), axis=0) == -10).all()
    assert (np.diff(sagittal.astype(int), axis=0) == -10).all()


def test_anterior_is_above_and_the_patients_right_on_the_left_axially() -> None:
    # On the grid height grows to the back and width to the patient's left.
    axial = pictures_of(draw_tile(make_scan(), "t", ""))[0].astype(int)
    assert (np.diff(axial, axis=0) == 10).all()
    assert (np.diff(axial, axis=1) == 10).all()


def test_the_window_goes_from_black_to_white() -> None:
    scan = replace(make_scan(), window_hu=(50.0, 60.0))
    axial = pictures_of(draw_tile(scan, "t", ""))[0]
    assert (axial.min(), axial.max()) == (0, 255)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 8), st.integers(0, 6), st.integers(2, 4), st.integers(2, 4))
def test_a_contour_runs_along_the_edges_of_the_voxels(
    top: int, left: int, height: int, width: int
) -> None:
    mask = box(slice(0, 6), slice(top, top + height), slice(left, left + width))
    corners = outline_of(draw_tile(make_scan(mask), "t", ""), "t-al")
    rows = np.flatnonzero(mask[0].any(axis=1))
    columns = np.flatnonzero(mask[0].any(axis=0))
    assert (corners[:, 0].min(), corners[:, 0].max()) == (
        2 * columns[0],
        2 * columns[-1] + 2,
    )
    assert (corners[:, 1].min(), corners[:, 1].max()) == (2 * rows[0], 2 * rows[-1] + 2)


def test_a_plane_keeps_the_ratio_of_its_millimetres() -> None:
    svg = draw_tile(make_scan(), "t", "")
    widths = [float(w) for w in re.findall(r' width="([\d.]+)"', svg)]
    heights = [float(h) for h in re.findall(r' height="([\d.]+)"', svg)]
    assert (widths[0], heights[0]) == (40.0, 60.0)
    assert widths[1] / heights[1] == pytest.approx(40 / 36, rel=1e-3)
    assert widths[2] / heights[2] == pytest.approx(60 / 36, rel=1e-3)


def test_everything_lies_within_the_tile() -> None:
    svg = draw_tile(make_scan(), "t", "")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None
    corners = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", svg)
    sizes = re.findall(r' width="([\d.]+)" height="([\d.]+)"', svg)
    for (x, y), (width, height) in zip(corners, sizes, strict=True):
        assert float(x) + float(width) <= float(found[1]) + 0.1
        assert float(y) + float(height) <= float(found[2]) + 0.1


def test_a_small_picture_is_exact_and_a_large_one_is_jpeg() -> None:
    side = int(np.sqrt(LARGEST_LOSSLESS_VOXELS))
    kinds = []
    for width in (side, side + 1):
        shape = (2, side, width)
        mask = np.zeros(shape, np.bool_)
        scan = replace(
            make_scan(), ct_hu=np.zeros(shape, np.int16), liver=mask, tumour=mask
        )
        kinds.append(re.findall(r"data:image/(\w+)", draw_tile(scan, "t", ""))[0])
    assert kinds == ["png", "jpeg"]


def test_a_description_cannot_become_markup() -> None:
    assert "<b>" not in draw_tile(make_scan(), "t", '"><b>')


def test_the_same_scan_gives_the_same_tile() -> None:
    scan = make_scan(~NO_MASK)
    assert draw_tile(scan, "t", "") == draw_tile(scan, "t", "")


def test_the_style_of_tiles_names_every_class_of_a_contour() -> None:
    svg = draw_tile(make_scan(~NO_MASK, ~NO_MASK), "t", "")
    assert all(
        f".{name} " in TILE_STYLE for name in re.findall(r'class="(\w+)"', svg)[1:]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"liver": np.zeros((1, 2, 3), np.bool_)}, "shapes do not fit"),
        ({"window_hu": (5.0, 5.0)}, "the window is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TileScan(**{**vars(make_scan()), **change})
