"""Risk maps on the model's grid: rows are years, columns slices of a patient's CT.

Axes: year depth height width; a picture shows height downwards and width to the right.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from acfnet_core.pictures.style import (
    BLUE,
    INK,
    MUTED,
    VERMILLION,
    YELLOW,
    new_figure,
    styled,
    to_svg,
)

SHOWN_YEARS = (1, 2, 3, 5, 8)
NUM_SLICES = 4
LARGEST_OPACITY = 0.75
SCALE_QUANTILE = 0.995


@dataclass(frozen=True, kw_only=True)
class RiskMapPatient:
    """What is shown of one patient.

    Attributes:
        title: A name that is none, such as "held-out patient 1".
        years: The years after resection that the maps are for, one for each map.
        ct_hu: CT in Hounsfield units, `[depth height width]`; values outside the
            window may have been clipped.
        window_hu: The lowest and the highest Hounsfield unit that the model sees.
        liver: 1 inside the liver, 0 elsewhere, `[depth height width]`.
        tumour: 1 inside a tumour, 0 elsewhere, `[depth height width]`.
        maps: Contribution of each place to the image logit of a year,
            `[year depth height width]`; above 0 it raises the hazard.
        survival: Predicted probability of being free of the event at the right edge
            of each time bin, ` [bin]`; every year has the same number of bins.

    Raises:
        ValueError: The shapes do not fit each other, or the window is empty.
    """

    title: str
    years: tuple[int, ...]
    ct_hu: NDArray[np.float32]
    window_hu: tuple[float, float]
    liver: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    maps: NDArray[np.float32]
    survival: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Hold the shapes together."""
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu {self.window_hu} does not rise")
        grid = self.ct_hu.shape
        fits = (
            len(grid) == 3
            and self.liver.shape == grid
            and self.tumour.shape == grid
            and self.maps.shape == (len(self.years), *grid)
            and self.survival.ndim == 1
            and len(self.years) > 0
            and len(self.survival) % len(self.years) == 0
        )
        if not fits:
            raise ValueError(
                f"shapes do not fit: {len(self.years)} years, CT {grid}, liver "
                f"{self.liver.shape}, tumour {self.tumour.shape}, maps "
                f"{self.maps.shape}, survival {self.survival.shape}"
            )

    def survival_at_year(self, index: int) -> float:
        """Return the predicted survival at the end of the year of map `index`."""
        bins_per_year = len(self.survival) // len(self.years)
        return float(self.survival[(index + 1) * bins_per_year - 1])


@styled
def plot_risk_maps(patient: RiskMapPatient, name: str) -> str:
    """Draw one patient's maps of the shown years over the CT, with contours.

    Args:
        patient: The maps on the CT grid.
        name: Unique on the page.
    """
    last = len(patient.years) - 1
    rows = [i for i, year in enumerate(patient.years) if year in SHOWN_YEARS] or [last]
    slices = choose_slices(patient.liver, patient.tumour)
    scale = _scale(patient)
    figure = new_figure(6.4, 1.2 * (len(rows) + 1) + 0.6)
    grid = figure.subplots(len(rows) + 1, len(slices), squeeze=False)
    for column, depth in enumerate(slices):
        _draw_slice(grid[0][column], patient, depth, None, scale)
        grid[0][column].set_title(
            f"slice {depth + 1} of {len(patient.ct_hu)}",
            fontsize=7.5,
            fontweight="normal",
            color=MUTED,
            loc="center",
        )
        for row, index in enumerate(rows, start=1):
            _draw_slice(grid[row][column], patient, depth, index, scale)
    label_row(grid[0][0], "CT", "as the model sees it")
    for row, index in enumerate(rows, start=1):
        free = f"{100 * patient.survival_at_year(index):.0f} % still free"
        label_row(grid[row][0], f"Year {patient.years[index]}", free)
    _draw_scale(figure, grid.ravel().tolist(), scale)
    described = f"Risk maps of {patient.title} over {len(rows)} years."
    return to_svg(figure, name, described)


def choose_slices(liver: NDArray[np.uint8], tumour: NDArray[np.uint8]) -> list[int]:
    """Choose slices through the liver, the one with the most tumour among them.

    Without a liver mask the slices are spread over the whole volume.

    Args:
        liver: 1 inside the liver, 0 elsewhere, `[depth height width]`.
        tumour: 1 inside a tumour, 0 elsewhere, `[depth height width]`.
    """
    inside = np.flatnonzero(liver.any(axis=(1, 2)))
    if not len(inside):
        inside = np.arange(len(liver))
    spread = np.quantile(inside, np.linspace(0.2, 0.8, NUM_SLICES), method="nearest")
    if tumour.any():
        fullest = int(tumour.sum(axis=(1, 2), dtype=np.int64).argmax())
        spread[np.abs(spread - fullest).argmin()] = fullest
    return sorted({int(depth) for depth in spread})


def overlay_map(
    ct_hu: NDArray[np.float32],
    values: NDArray[np.float32],
    scale: float,
    window_hu: tuple[float, float],
) -> NDArray[np.float64]:
    """Blend a slice of a map over its CT slice.

    Args:
        ct_hu: ` [height width]`.
        values: ` [height width]`; above 0 raises the hazard.
        scale: The value that is shown at the largest opacity.
        window_hu: Shown from black to white: what the model sees, and no more.

    Returns:
        Red, green and blue between 0 and 1, `[height width 3]`.
    """
    low, high = window_hu
    grey = np.clip((np.asarray(ct_hu, dtype=np.float64) - low) / (high - low), 0, 1)
    strength = np.clip(np.abs(values) / scale, 0, 1) * LARGEST_OPACITY
    raises = (np.asarray(values) > 0)[..., None]
    colour = np.where(raises, to_rgb(VERMILLION), to_rgb(BLUE))
    return (1 - strength)[..., None] * grey[..., None] + strength[..., None] * colour


def contribution_colours() -> LinearSegmentedColormap:
    """Return the colours from what lowers the image logit to what raises it."""
    return LinearSegmentedColormap.from_list(
        "contribution", [BLUE, "#f4f4f4", VERMILLION]
    )


def _scale(patient: RiskMapPatient) -> float:
    """Return the value of full colour: one for all years, so that rows compare."""
    return max(float(np.quantile(np.abs(patient.maps), SCALE_QUANTILE)), 1e-12)


def _draw_slice(
    axes: Axes, patient: RiskMapPatient, depth: int, year: int | None, scale: float
) -> None:
    """Draw one slice with the contours; without a year the CT alone."""
    ct_hu = patient.ct_hu[depth]
    values = np.zeros_like(ct_hu) if year is None else patient.maps[year, depth]
    picture = overlay_map(ct_hu, values, scale, patient.window_hu)
    # Without interpolation the picture is embedded at its own, small, size.
    axes.imshow((picture * 255).round().astype(np.uint8), interpolation="none")
    for mask, colour, width in (
        (patient.liver[depth], "white", 0.7),
        (patient.tumour[depth], YELLOW, 1.1),
    ):
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def label_row(axes: Axes, title: str, detail: str) -> None:
    """Write what a row shows to the left of its first slice."""
    for text, offset, weight, colour in (
        (title, 6, "bold", INK),
        (detail, -6, "normal", MUTED),
    ):
        axes.annotate(
            text,
            xy=(0, 0.5),
            xycoords="axes fraction",
            xytext=(-8, offset),
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour,
            fontweight=weight,
            fontsize=8.5 if weight == "bold" else 7.5,
            annotation_clip=False,
        )


def _draw_scale(figure: Figure, axes: list[Axes], scale: float) -> None:
    """Draw the colour scale below the pictures."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(-scale, scale), contribution_colours()),
        ax=axes,
        location="bottom",
        fraction=0.03,
        pad=0.02,
        aspect=45,
        ticks=[-scale, 0, scale],
    )
    bar.ax.set_xticklabels(["lowers the image logit", "0", "raises it"])
    first, _, last = bar.ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    bar.outline.set_visible(False)
