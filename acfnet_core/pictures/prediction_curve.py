"""One patient's projected curves: what follows from the hazard, and the hazard itself.

Axes: ` bin` runs over the hazard's time bins.
"""

from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from acfnet_core.pictures.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    RULE,
    VERMILLION,
    label_line_ends,
    new_figure,
    styled,
    to_png,
)
from acfnet_core.time_units import MONTHS_PER_YEAR

NOBODY = "nobody was followed\nthis long in training"
HAZARD_GREY = "#8a939d"
NUM_CHARACTERS = 105
NOTE_WIDTH = 0.25
"""Share of the axis that the note on unsupported time takes."""
NOTE_BOTTOM = 0.82
"""Probability below which a curve leaves the note its place at the top."""


@dataclass(frozen=True, kw_only=True)
class CurveWithRange:
    """A value for every bin, and the ensemble's lowest and highest if there is one."""

    values: NDArray[np.float64]
    lowest: NDArray[np.float64] | None = None
    highest: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectedCurves:
    """What the picture shows.

    Attributes:
        bin_edges_months: Right edge of every bin.
        survival: Probability to be free of the event at a bin's right edge.
        cumulative_incidence: Probability of the event up to a bin's right edge.
        hazard: Probability of the event within a bin for who is free of it before.
        supported_months: How far patients were followed in training, if known.
        counted_from: From when the months count, such as "resection".
        range_words: What the bands are; empty where there are none.

    Raises:
        ValueError: A curve has not one value for each bin.
    """

    bin_edges_months: tuple[float, ...]
    survival: CurveWithRange
    cumulative_incidence: CurveWithRange
    hazard: CurveWithRange
    supported_months: float | None
    counted_from: str
    range_words: str

    def __post_init__(self) -> None:
        """Hold the lengths together."""
        for curve in (self.survival, self.cumulative_incidence, self.hazard):
            for values in (curve.values, curve.lowest, curve.highest):
                if values is not None and values.shape != (len(self.bin_edges_months),):
                    raise ValueError(
                        f"a curve has shape {values.shape}; expected one value for "
                        f"each of {len(self.bin_edges_months)} bins"
                    )


@styled
def draw_prediction_curve(curves: ProjectedCurves) -> bytes:
    """Draw survival and cumulative incidence, below them the hazard, as a PNG file.

    It is read without colour: survival has a full line and discs, cumulative incidence
    a dashed one and squares; what training could not support is hatched.
    """
    figure = new_figure(6.8, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    _draw_probabilities(above, curves)
    _draw_hazard(below, curves)
    _mark_unsupported(above, below, curves)
    last = curves.bin_edges_months[-1] / MONTHS_PER_YEAR
    below.set(xlim=(0, last), xticks=range(int(last) + 1))
    below.set_xlabel(f"years after {curves.counted_from}")
    return to_png(figure)


def _draw_probabilities(axes: Axes, curves: ProjectedCurves) -> None:
    """Draw the two curves of probability, each from time 0."""
    edges = np.array([0.0, *curves.bin_edges_months]) / MONTHS_PER_YEAR
    ends = []
    for curve, start, label, colour, line in (
        (curves.survival, 1.0, "free of the event", BLUE, "o-"),
        (curves.cumulative_incidence, 0.0, "had the event", VERMILLION, "s--"),
    ):
        values = np.concatenate([[start], curve.values])
        axes.plot(edges, values, line, color=colour, ms=3.2, zorder=4)
        if curve.lowest is not None and curve.highest is not None:
            low = np.concatenate([[start], curve.lowest])
            high = np.concatenate([[start], curve.highest])
            axes.fill_between(edges, low, high, color=colour, alpha=0.18, lw=0)
            for side in (low, high):
                axes.plot(edges, side, color=colour, linewidth=0.5, alpha=0.7)
        ends.append((float(edges[-1]), float(values[-1]), label, colour))
    axes.set(ylim=(0, 1.0), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set_yticklabels([f"{tick} %" for tick in (0, 25, 50, 75, 100)])
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    label_line_ends(axes, ends, gap=0.07)
    lines = fill(curves.range_words, NUM_CHARACTERS)
    axes.set_title("Projected probability", pad=8 + 11 * len(lines.splitlines()))
    axes.annotate(
        lines,
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 7),
        textcoords="offset points",
        color=MUTED,
        fontsize=7.5,
    )


def _draw_hazard(axes: Axes, curves: ProjectedCurves) -> None:
    """Draw the hazard of every bin as a bar, the ensemble's range as a whisker."""
    edges = np.array([0.0, *curves.bin_edges_months]) / MONTHS_PER_YEAR
    hazard = curves.hazard
    middles = (edges[1:] + edges[:-1]) / 2
    width = 0.8 * np.array([right - left for left, right in pairwise(edges)])
    axes.bar(middles, hazard.values, width, color=HAZARD_GREY, zorder=2)
    top = float(hazard.values.max())
    if hazard.lowest is not None and hazard.highest is not None:
        axes.vlines(middles, hazard.lowest, hazard.highest, color=INK, lw=1.1, zorder=4)
        top = max(top, float(hazard.highest.max()))
    top = max(1.15 * top, 0.02)
    axes.set(ylim=(0, top))
    ticks = axes.get_yticks()
    axes.set_yticks([tick for tick in ticks if tick <= top])
    decimals = 0 if ticks[1] - ticks[0] >= 0.01 else 1
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.{decimals}f} %")
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    months = curves.bin_edges_months[0]
    axes.set_title(
        f"Projected hazard: event within {months:g} months, if free of it before"
    )


def _mark_unsupported(above: Axes, below: Axes, curves: ProjectedCurves) -> None:
    """Hatch the time for which training had nobody under observation."""
    last = curves.bin_edges_months[-1]
    supported = curves.supported_months
    if supported is None or supported >= last:
        return
    start, end = supported / MONTHS_PER_YEAR, last / MONTHS_PER_YEAR
    for axes in (above, below):
        axes.axvspan(
            start,
            end,
            facecolor=(1, 1, 1, 0.55),
            edgecolor=FAINT,
            hatch="////",
            linewidth=0,
            zorder=5,
        )
        axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":", zorder=6)
    is_wide = end - start > NOTE_WIDTH * end
    reach = end - max(end - start, NOTE_WIDTH * end)
    is_beside = np.array(curves.bin_edges_months) / MONTHS_PER_YEAR >= reach
    lines = np.maximum(curves.survival.values, curves.cumulative_incidence.values)
    is_top_free = float(lines[is_beside].max()) < NOTE_BOTTOM
    above.annotate(
        NOBODY,
        xy=((start + end) / 2 if is_wide else end, 0.97 if is_top_free else 0.55),
        ha="center" if is_wide else "right",
        va="top",
        fontsize=7.5,
        color=INK,
        zorder=7,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2.0},
    )
