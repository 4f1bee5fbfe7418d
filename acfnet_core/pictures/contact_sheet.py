"""One tile of a contact sheet: a scan in three planes with its contours, as SVG.

Axes: `depth height width`, as `axial_view.py` turns them: from the feet to the head,
from anterior to posterior, from the patient's right to the left. The voxels stay what
they are, a small grey picture that the browser smooths; contours are lines, so they
stay thin on any screen and a page can hide them.

A page that shows tiles puts `TILE_STYLE` into its style sheet once.
"""

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from acfnet_core.pictures.style import YELLOW

ScalarT = TypeVar("ScalarT", bound=np.generic)

GAP_MM = 4.0
LARGEST_LOSSLESS_VOXELS = 96 * 96
"""Above it a plane is written as JPEG: noise does not compress."""
JPEG_QUALITY = 82

TILE_STYLE = f"""\
svg.tile {{ background: #000; border-radius: 3px; }}
svg.tile .contours {{ fill: none; }}
svg.tile .halo {{ stroke: #000; stroke-opacity: 0.55; stroke-width: 3px; }}
svg.tile .liver {{ stroke: #fff; stroke-width: 1.1px; }}
svg.tile .tumour {{ stroke: {YELLOW}; stroke-width: 1.8px; }}
svg.tile text {{ fill: #fff; font-size: 13px; font-weight: 600; }}
"""


@dataclass(frozen=True, kw_only=True)
class TileScan:
    """A scan that is shown on a tile.

    Attributes:
        ct_hu: Hounsfield units, `[depth height width]`.
        liver: Where the liver was drawn, as `ct_hu`.
        tumour: Where tumours were drawn, as `ct_hu`.
        spacing_mm: Between voxel centres along depth, height and width.
        window_hu: Shown from black to white.

    Raises:
        ValueError: The shapes do not fit each other, or the window is empty.
    """

    ct_hu: NDArray[np.int16]
    liver: NDArray[np.bool_]
    tumour: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]

    def __post_init__(self) -> None:
        """Hold the shapes together."""
        shapes = {self.ct_hu.shape, self.liver.shape, self.tumour.shape}
        if len(shapes) != 1 or self.ct_hu.ndim != 3:
            raise ValueError(f"shapes do not fit: {sorted(shapes)}")
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError(f"the window is empty: {self.window_hu}")


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """One cut through a scan, `[row column]` from top left, and its pixels' size."""

    grey: NDArray[np.uint8]
    liver: NDArray[np.bool_]
    tumour: NDArray[np.bool_]
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        rows, columns = self.grey.shape
        return columns * self.pixel_mm[1], rows * self.pixel_mm[0]


def draw_tile(scan: TileScan, name: str, description: str) -> str:
    """Draw the axial, the coronal and the sagittal plane with most tumour in them.

    Without a tumour, those with most liver. Millimetres keep their ratio within a
    plane; the axial one is the largest.

    Args:
        scan: What is shown.
        name: Unique on the page; every id inside begins with it.
        description: What a reader who cannot see the tile is told.
    """
    axial, coronal, sagittal = (_cut(scan, axis) for axis in range(3))
    width, height = axial.size_mm
    # Coronal and sagittal stand above each other, as high together as the axial plane.
    room = height - GAP_MM
    scale = min(1.0, room / (coronal.size_mm[1] + sagittal.size_mm[1]))
    side = scale * max(coronal.size_mm[0], sagittal.size_mm[0])
    below = scale * coronal.size_mm[1] + GAP_MM
    body = (
        _draw_plane(axial, f"{name}-a", (0.0, 0.0), 1.0),
        _draw_plane(coronal, f"{name}-c", (width + GAP_MM, 0.0), scale),
        _draw_plane(sagittal, f"{name}-s", (width + GAP_MM, below), scale),
    )
    return (
        f'<svg class="tile" role="img" aria-label="{escape(description)}" '
        f'viewBox="0 0 {width + GAP_MM + side:.4g} {height:.4g}">{"".join(body)}'
        f'<text x="4" y="{height / 2:.4g}">R</text></svg>'
    )


def _cut(scan: TileScan, axis: int) -> _Plane:
    """Cut a scan across an axis, where most of the tumour, or of the liver, is."""
    target = scan.tumour if scan.tumour.any() else scan.liver
    others = tuple({0, 1, 2} - {axis})
    place = int(np.argmax(target.sum(axis=others)))
    if not target.any():
        place = scan.ct_hu.shape[axis] // 2
    low, high = scan.window_hu
    ct_hu = _plane_of(scan.ct_hu, axis, place).astype(np.float32)
    grey = np.clip((ct_hu - low) / (high - low), 0.0, 1.0)
    row_mm, column_mm = (scan.spacing_mm[i] for i in sorted(others))
    return _Plane(
        grey=np.rint(255 * grey).astype(np.uint8),
        liver=_plane_of(scan.liver, axis, place),
        tumour=_plane_of(scan.tumour, axis, place),
        pixel_mm=(row_mm, column_mm),
    )


def _plane_of(volume: NDArray[ScalarT], axis: int, place: int) -> NDArray[ScalarT]:
    """Return one plane across an axis, with the head above where it shows it."""
    plane = np.moveaxis(volume, axis, 0)[place]
    return plane if axis == 0 else plane[::-1]


def _draw_plane(
    plane: _Plane, name: str, corner: tuple[float, float], scale: float
) -> str:
    width, height = (scale * size for size in plane.size_mm)
    row_mm, column_mm = (scale * size for size in plane.pixel_mm)
    lines = "".join(
        _draw_contour(mask, f"{name}{kind[0]}", kind)
        for kind, mask in (("liver", plane.liver), ("tumour", plane.tumour))
        if mask.any()
    )
    # Contours are written in half voxels, so that their points are whole numbers.
    return (
        f'<g transform="translate({corner[0]:.4g} {corner[1]:.4g})">'
        f'<image href="{_encode(plane.grey)}" width="{width:.4g}" '
        f'height="{height:.4g}" preserveAspectRatio="none"/>'
        f'<g class="contours" transform="scale({column_mm / 2:.4g} {row_mm / 2:.4g})">'
        f"{lines}</g></g>"
    )


def _draw_contour(mask: NDArray[np.bool_], name: str, kind: str) -> str:
    """Draw the edge of a mask in its colour, over a dark line that is a bit wider."""
    return (
        f'<g class="halo"><path id="{name}" vector-effect="non-scaling-stroke" '
        f'd="{_trace(mask)}"/></g>'
        f'<use class="{kind}" href="#{name}"/>'
    )


def _trace(mask: NDArray[np.bool_]) -> str:
    """Return the lines half-way between the voxels within and without, as a path."""
    padded = np.pad(mask.astype(np.float32), 1)
    lines = contour_generator(z=padded).lines(0.5)
    parts = []
    for line in lines:
        points = np.rint(2 * np.asarray(line) - 1).astype(int)
        steps = np.diff(points, axis=0)
        # Of a straight run only its ends are written.
        turns = np.flatnonzero(np.any(np.diff(steps, axis=0) != 0, axis=1)) + 1
        corners = points[[0, *turns.tolist()]]
        relative = " ".join(f"{x} {y}" for x, y in np.diff(corners, axis=0).tolist())
        parts.append(f"M{corners[0][0]} {corners[0][1]}l{relative}z")
    return "".join(parts)


def _encode(grey: NDArray[np.uint8]) -> str:
    """Return a grey picture as a data address, exact where it is small."""
    picture = Image.fromarray(np.ascontiguousarray(grey))
    buffer = io.BytesIO()
    if grey.size <= LARGEST_LOSSLESS_VOXELS:
        kind = "png"
        picture.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
