"""Figures of a site's data: how values are distributed, and the follow-up, as SVG.

Axes: `value` what was measured, `step` times at which a curve falls, `query` times at
which patients at risk are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from acfnet_core.pictures.style import (
    BLUE,
    FAINT,
    MUTED,
    RULE,
    VERMILLION,
    new_figure,
    styled,
    to_svg,
)

MOST_BINS = 24
MOST_BARS = 10
"""Numbers with no more different values than these, and no wide gaps between them, get
a bar for each."""
_PANEL_IN = (2.6, 1.55)
_LOG_TICKS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """A Kaplan-Meier curve with the numbers at risk below it.

    Attributes:
        time_months: `[step]`, ascending.
        survival: `[step]`, after each step.
        low: `[step]`, lower bound; NaN where undetermined.
        high: `[step]`, upper bound; NaN where undetermined.
        at_months: `[query]`.
        num_at_risk: `[query]`.
    """

    time_months: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    at_months: NDArray[np.float64]
    num_at_risk: NDArray[np.int64]


@styled
def plot_numbers(
    values: NDArray[np.float64],
    name: str,
    label: str,
    *,
    bounds: tuple[float | None, float | None] = (None, None),
    is_log: bool = False,
) -> str:
    """Draw how often numbers occur; bounds that lie in view are dashed lines.

    Args:
        values: `[value]`, finite.
        name: Unique on the page.
        label: What was measured, with its unit.
        bounds: Lowest and highest that is allowed, or expected.
        is_log: Whether the axis is that of log(1 + x).

    Raises:
        ValueError: There is no value.
    """
    if values.size == 0:
        raise ValueError("there is no value to draw")
    figure, axes = _new_panel()
    shown = np.log1p(values) if is_log else values
    if is_log or not _draw_bars(axes, values):
        num_bins = int(np.clip(2 * np.sqrt(values.size), 6, MOST_BINS))
        axes.hist(shown, bins=num_bins, color=BLUE, edgecolor="white", linewidth=0.4)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    left, right = axes.get_xlim()
    if is_log:
        ticks = [tick for tick in _LOG_TICKS if left <= np.log1p(tick) <= right]
        axes.set_xticks(np.log1p(ticks), [f"{tick:,}" for tick in ticks])
    for bound in bounds:
        place = np.log1p(bound) if is_log and bound is not None else bound
        if place is not None and left <= place <= right:
            axes.axvline(place, color=VERMILLION, linewidth=1.1, linestyle="dashed")
    middle = float(np.median(values))
    described = f"{label}: {values.size} values, median {middle:.4g}, from "
    return to_svg(figure, name, f"{described}{values.min():.4g} to {values.max():.4g}.")


@styled
def plot_codes(counts: Sequence[tuple[str, int]], name: str, label: str) -> str:
    """Draw how often each code occurs, with the count at the end of its bar.

    Args:
        counts: Each code's words and how many have it, in the contract's order.
        name: Unique on the page.
        label: What the codes are of.

    Raises:
        ValueError: There is no code.
    """
    if not counts:
        raise ValueError("there is no code to draw")
    figure = new_figure(_PANEL_IN[0], max(0.45 + 0.26 * len(counts), 0.9))
    axes = figure.subplots()
    places = range(len(counts))
    axes.barh(places, [number for _, number in counts], height=0.62, color=BLUE)
    axes.set_yticks(places, [_shorten(words) for words, _ in counts])
    axes.invert_yaxis()
    for place, (_, number) in enumerate(counts):
        axes.annotate(
            str(number),
            xy=(number, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
        )
    most = max(number for _, number in counts)
    axes.set_xlim(0, 1.18 * max(most, 1))
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    described = ", ".join(f"{words} {number}" for words, number in counts)
    return to_svg(figure, name, f"{label}: {described}.")


@styled
def plot_follow_up(follow_up: FollowUp, name: str, label: str) -> str:
    """Draw a Kaplan-Meier curve with its 95 % interval and the numbers at risk.

    Raises:
        ValueError: There is no patient.
    """
    if follow_up.time_months.size == 0:
        raise ValueError("there is no patient to draw")
    figure = new_figure(6.2, 3.3)
    axes, table = figure.subplots(2, 1, height_ratios=(3.0, 0.25))
    months = np.concatenate([[0.0], follow_up.time_months])
    survival = np.concatenate([[1.0], follow_up.survival])
    axes.step(months, survival, where="post", color=BLUE, linewidth=1.7)
    axes.fill_between(
        follow_up.time_months,
        follow_up.low,
        follow_up.high,
        step="post",
        color=BLUE,
        alpha=0.12,
        linewidth=0,
    )
    last = max(float(months[-1]), 1.0)
    axes.set(ylim=(0, 1.02), xlim=(0, 1.01 * last), xticks=follow_up.at_months)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_title(label)
    axes.set_xlabel("Months after resection")
    _draw_at_risk(table, follow_up, axes.get_xlim())
    described = f"{label}: {survival[-1]:.2f} at month {months[-1]:.0f}."
    return to_svg(figure, name, described)


def _draw_at_risk(axes: Axes, follow_up: FollowUp, limits: tuple[float, float]) -> None:
    axes.set(xlim=limits, ylim=(-0.5, 0.5), xticks=[], yticks=[])
    axes.set_title("Number at risk", fontsize=8.5, fontweight="normal", color=MUTED)
    axes.spines[:].set_visible(False)
    pairs = zip(follow_up.at_months, follow_up.num_at_risk, strict=True)
    for months, number in pairs:
        axes.text(months, 0, str(number), ha="center", va="center_baseline")


def _draw_bars(axes: Axes, values: NDArray[np.float64]) -> bool:
    """Draw a bar for each different value; say no where that cannot be read."""
    different, counts = np.unique(values, return_counts=True)
    gaps = np.diff(different)
    step = float(gaps.min()) if gaps.size else 1.0
    span = float(different[-1] - different[0])
    if len(different) > MOST_BARS or span > MOST_BINS * step:
        return False
    axes.bar(different, counts, width=0.7 * step, color=BLUE)
    axes.set_xticks(different, [f"{one:.4g}" for one in different])
    least = 3 * step
    if span < least:
        middle = (different[0] + different[-1]) / 2
        axes.set_xlim(middle - least, middle + least)
    return True


def _new_panel() -> tuple[Figure, Axes]:
    figure = new_figure(*_PANEL_IN)
    axes = figure.subplots()
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _shorten(words: str, most: int = 22) -> str:
    return (
        words if len(words) <= most else f"{words[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
    )
