"""Risk maps over a scan in its own geometry: rows are years, columns axial slices.

Axes: `year slice height width`, as `axial_view.py` turns them: slices from the feet to
the head, anterior up, the patient's right on the left of the picture.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from acfnet_core.pictures.risk_map_panels import (
    SHOWN_YEARS,
    contribution_colours,
    label_row,
    overlay_map,
)
from acfnet_core.pictures.style import INK, MUTED, YELLOW, new_figure, styled, to_png

ORIENTATION = (
    "Axial slices seen from the feet: the patient's right (R) is on the left, "
    "anterior is up."
)
WHAT_A_MAP_IS = (
    "An exact additive account of the image logit: where the model looked. "
    "Not a forecast of where a recurrence appears."
)
OUTSIDE_HU = -300
"""Below it lies no tissue of the abdomen: pictures are cut to what is above."""
OUTLINED_SHARE = 0.5
"""Share of the scale at which a map is outlined, so that grey print can be read."""
PANEL_WIDTH_IN = 1.55
LARGEST_HEIGHT_IN = 10.8
SCALE_QUANTILE = 0.995


@dataclass(frozen=True, kw_only=True)
class ScanOfPatient:
    """A scan with the maps that were laid on it, in the picture's axes.

    Attributes:
        ct_hu: Hounsfield units, `[slice height width]`, of the slices shown.
        liver: 1 inside the liver, as `ct_hu`.
        tumour: 1 inside a tumour, as `ct_hu`.
        maps: Contribution to each year's image logit, `[year slice height width]`.
        slice_numbers: Of the slices shown, from 1, counted from the feet.
        num_slices: Of the whole scan.
        spacing_mm: Between voxel centres along depth, height and width.
        window_hu: Shown from black to white.
        years: The year of each map.
        survival: Projected probability to be free of the event, for each year.
        heading: What is shown; no identifier.

    Raises:
        ValueError: The shapes do not fit each other.
    """

    ct_hu: NDArray[np.float32]
    liver: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    maps: NDArray[np.float32]
    slice_numbers: tuple[int, ...]
    num_slices: int
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    years: tuple[int, ...]
    survival: tuple[float, ...]
    heading: str

    def __post_init__(self) -> None:
        """Hold the shapes together."""
        grid = self.ct_hu.shape
        fits = (
            len(grid) == 3
            and grid[0] == len(self.slice_numbers)
            and self.liver.shape == self.tumour.shape == grid
            and self.maps.shape == (len(self.years), *grid)
            and len(self.survival) == len(self.years)
        )
        if not fits:
            raise ValueError(
                f"shapes do not fit: {len(self.years)} years, {len(self.slice_numbers)}"
                f" slices, CT {grid}, liver {self.liver.shape}, tumour "
                f"{self.tumour.shape}, maps {self.maps.shape}"
            )


def shown_years(years: tuple[int, ...]) -> list[int]:
    """Return which of the maps are shown, by their place; the last if none else is."""
    return [i for i, year in enumerate(years) if year in SHOWN_YEARS] or [
        len(years) - 1
    ]


@styled
def draw_scan_panels(scan: ScanOfPatient) -> bytes:
    """Draw the maps of the shown years over the slices, as a PNG file.

    It is read without colour: what raises the hazard by half of the scale has a full
    outline, what lowers it a dashed one.
    """
    rows = shown_years(scan.years)
    field = _field_of(scan.ct_hu)
    scale = _scale(scan.maps[rows])
    figure, grid = _new_grid(scan, field, len(rows) + 1)
    for column, number in enumerate(scan.slice_numbers):
        _draw_slice(grid[0][column], scan, column, None, field, scale)
        grid[0][column].set_title(
            f"slice {number} of {scan.num_slices}",
            fontsize=7.5,
            fontweight="normal",
            color=MUTED,
            loc="center",
        )
        for row, index in enumerate(rows, start=1):
            _draw_slice(grid[row][column], scan, column, index, field, scale)
    _mark_sides(grid[0][0])
    label_row(grid[0][0], "CT", "from feet to head")
    for row, index in enumerate(rows, start=1):
        free = f"{100 * scan.survival[index]:.0f} % still free"
        label_row(grid[row][0], f"Year {scan.years[index]}", free)
    _draw_scale(figure, grid.ravel().tolist(), scale)
    figure.suptitle(
        scan.heading, x=0.01, ha="left", fontsize=9.5, fontweight="bold", color=INK
    )
    _draw_legend(figure)
    return to_png(figure)


def _new_grid(
    scan: ScanOfPatient, field: tuple[slice, slice], num_rows: int
) -> tuple[Figure, NDArray[np.object_]]:
    """Make the panels as large as the page allows; millimetres keep their ratio."""
    height = (field[0].stop - field[0].start) * scan.spacing_mm[1]
    width = (field[1].stop - field[1].start) * scan.spacing_mm[2]
    num_columns = len(scan.slice_numbers)
    around = 1.45
    panel_width = min(
        PANEL_WIDTH_IN,
        (LARGEST_HEIGHT_IN - around) / num_rows * width / height,
    )
    figure = new_figure(
        max(1.1 + num_columns * (panel_width + 0.06), 6.4),
        around + num_rows * (panel_width * height / width + 0.06),
    )
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def _field_of(ct_hu: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns that hold tissue in any slice shown."""
    inside: NDArray[np.bool_] = np.any(ct_hu > OUTSIDE_HU, axis=0)
    if not inside.any():
        return slice(0, ct_hu.shape[1]), slice(0, ct_hu.shape[2])
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def _scale(maps: NDArray[np.float32]) -> float:
    """Return the value of full colour: one for all years, so that rows compare.

    Places outside the model's field are zero and do not count.
    """
    size = np.abs(maps[maps != 0])
    return max(float(np.quantile(size, SCALE_QUANTILE)), 1e-12) if len(size) else 1.0


def _draw_slice(
    axes: Axes,
    scan: ScanOfPatient,
    place: int,
    year: int | None,
    field: tuple[slice, slice],
    scale: float,
) -> None:
    """Draw one slice with its outlines; without a year the CT alone."""
    ct_hu = scan.ct_hu[place][field]
    values = np.zeros_like(ct_hu) if year is None else scan.maps[year, place][field]
    aspect = scan.spacing_mm[1] / scan.spacing_mm[2]
    axes.imshow(overlay_map(ct_hu, values, scale, scan.window_hu), aspect=aspect)
    edge = OUTLINED_SHARE * scale
    for drawn, level, colour, width, line in (
        (scan.liver[place][field], 0.5, "white", 0.6, "solid"),
        (scan.tumour[place][field], 0.5, YELLOW, 1.2, "solid"),
        (values, edge, INK, 0.8, "solid"),
        (-values, edge, INK, 0.8, "dashed"),
    ):
        if drawn.max() > level > drawn.min():
            lines = axes.contour(
                drawn, [level], colors=[colour], linewidths=width, linestyles=[line]
            )
            if colour == INK:
                # A light border lets the line be seen on dark tissue too.
                halo = withStroke(linewidth=width + 1.0, foreground="#f4f4f4")
                lines.set_path_effects([halo])
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _mark_sides(axes: Axes) -> None:
    """Write R, L, A and P on the sides of a picture."""
    for text, place in (
        ("R", (0.05, 0.5)),
        ("L", (0.95, 0.5)),
        ("A", (0.5, 0.93)),
        ("P", (0.5, 0.07)),
    ):
        axes.annotate(
            text,
            xy=place,
            xycoords="axes fraction",
            ha="center",
            va="center",
            color="white",
            fontsize=7.5,
            fontweight="bold",
            path_effects=[withStroke(linewidth=1.6, foreground="black")],
        )


def _draw_scale(figure: Figure, axes: list[Axes], scale: float) -> None:
    """Draw the colour scale with its numbers below the pictures."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(-scale, scale), contribution_colours()),
        ax=axes,
        location="bottom",
        fraction=0.02,
        pad=0.012,
        aspect=50,
        ticks=[-scale, 0, scale],
    )
    digits = f"{scale:.2g}"
    bar.ax.set_xticklabels(
        [
            f"lowers the image logit: \N{MINUS SIGN}{digits} per ml",
            "0",
            f"raises it: +{digits} per ml",
        ]
    )
    bar.ax.tick_params(labelsize=7.5)
    first, _, last = bar.ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    bar.outline.set_visible(False)


def _draw_legend(figure: Figure) -> None:
    """Say what the outlines are, how the patient lies, and what a map is."""
    grey = "#8a939d"
    handles = [
        Line2D([], [], color=grey, linewidth=0.8, label="liver"),
        Line2D([], [], color="#c9b800", linewidth=2.0, label="tumour"),
        Line2D([], [], color=INK, linewidth=1.0, label="raises by half the scale"),
        Line2D([], [], color=INK, lw=1.0, ls="dashed", label="lowers by half of it"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=7.5,
        labelcolor=MUTED,
        alignment="left",
        title=f"{ORIENTATION}\n{WHAT_A_MAP_IS}",
        title_fontproperties={"size": 7.5},
    )
