"""The report's statistical figures, each as an inline SVG element.

Every figure says in words what to see (its label for screen readers), carries its
names beside the lines and needs no colour to be read.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from acf_server.report_numbers import count, estimate_and_range, metric_title
from acf_server.run_files import RoundRecord
from acfnet_core.evaluation.verdict import (
    CalibrationBin,
    GroupCurve,
    Metric,
    PairedDifference,
)
from acfnet_core.pictures.style import (
    BLUE,
    FAINT,
    GREEN,
    MUTED,
    RULE,
    VERMILLION,
    label_line_ends,
    new_figure,
    styled,
    to_svg,
)
from acfnet_core.time_units import MONTHS_PER_YEAR

_Points = list[tuple[float, float]]


@styled
def plot_rounds_loss(rounds: Sequence[RoundRecord]) -> str | None:
    """Draw the loss by round: mean over patients, worst site, every site in grey."""
    return _plot_rounds(
        "rounds-loss",
        "Loss (lower is better)",
        mean=[(r.round, r.mean_loss) for r in rounds],
        worst=[(r.round, r.worst_loss) for r in rounds],
        sites=[(s.name, r.round, s.loss) for r in rounds for s in r.sites],
    )


@styled
def plot_rounds_concordance(rounds: Sequence[RoundRecord]) -> str | None:
    """Draw Harrell's C by round: mean over patients, worst site, every site in grey."""
    return _plot_rounds(
        "rounds-c",
        "Harrell's C at the sites (higher is better)",
        mean=[(r.round, r.mean_c) for r in rounds],
        worst=[(r.round, r.worst_c) for r in rounds],
        sites=[(s.name, r.round, s.harrell_c) for r in rounds for s in r.sites],
    )


def _plot_rounds(
    name: str,
    title: str,
    *,
    mean: Sequence[tuple[int, float | None]],
    worst: Sequence[tuple[int, float | None]],
    sites: Sequence[tuple[str, int, float | None]],
) -> str | None:
    """Draw one measure by round; None when no round has it."""
    mean_points, worst_points = _known(mean), _known(worst)
    if not mean_points:
        return None
    figure = new_figure(4.6, 3.0)
    axes = figure.subplots()
    for site in dict.fromkeys(site for site, _, _ in sites):
        points = _known([(number, value) for s, number, value in sites if s == site])
        axes.plot(*_columns(points), color=FAINT, linewidth=0.9, zorder=1)
    axes.plot(*_columns(mean_points), "o-", color=BLUE, markersize=3.5, zorder=3)
    ends = [(*mean_points[-1], "mean", BLUE)]
    if worst_points:
        axes.plot(
            *_columns(worst_points), "s--", color=VERMILLION, markersize=3, zorder=2
        )
        ends.append((*worst_points[-1], "worst site", VERMILLION))
    axes.set_title(title)
    axes.set_xlabel("Round (0: the initial model)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    label_line_ends(axes, ends, gap=0.09)
    described = f"{title} by round, from {mean_points[0][1]:.3f} to "
    return to_svg(figure, name, f"{described}{mean_points[-1][1]:.3f} (mean).")


@styled
def plot_differences(
    differences: Sequence[PairedDifference], metric: Metric
) -> str | None:
    """Draw the paired differences of one metric; right of the line the model is better.

    A difference whose figure is not determined is left out; its table row stays.
    """
    rows = [d for d in differences if d.metric == metric and d.interval is not None]
    if not rows:
        return None
    figure = new_figure(3.1, 1.0 + 0.5 * len(rows))
    axes = figure.subplots()
    for position, row in enumerate(reversed(rows)):
        _draw_difference(axes, position, row)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_ylim(-0.4, len(rows) - 0.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    reach = 1.1 * max(abs(edge) for edge in axes.get_xlim())
    better = 1 if rows[0].higher_is_better else -1
    axes.set_xlim(-reach * better, reach * better)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.set_title(metric_title(metric))
    # An em space stays one in HTML, where ordinary spaces would collapse.
    axes.set_xlabel(f"← reference better\u2003{rows[0].model} better →", fontsize=7.5)
    described = "; ".join(f"{d.reference} {_range_text(d)}" for d in rows)
    name = f"differences-{metric.replace('_', '-')}"
    return to_svg(figure, name, f"{metric_title(metric)}: {described}.")


def _draw_difference(axes: Axes, position: int, row: PairedDifference) -> None:
    """Draw one row of the forest plot, its name and figures above the bar."""
    assert row.interval is not None  # noqa: S101 - the caller left these out
    colour = MUTED if row.conclusion in ("no_evidence", "undetermined") else BLUE
    if row.interval.low is not None and row.interval.high is not None:
        axes.plot(
            [row.interval.low, row.interval.high], [position] * 2, color=colour, lw=1.8
        )
    axes.plot(row.interval.estimate, position, "s", color=colour, markersize=5)
    axes.annotate(
        f"vs {row.reference}: {_range_text(row)}",
        xy=(0, position + 0.25),
        xycoords=axes.get_yaxis_transform(),
        va="bottom",
        fontsize=7.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def _range_text(row: PairedDifference) -> str:
    """Write a difference with its sign and interval."""
    return estimate_and_range(row.interval, signed=True)


@styled
def plot_calibration(bins: Sequence[CalibrationBin], year: int) -> str | None:
    """Draw observed against predicted probability of the event by the end of a year."""
    known = [b for b in bins if b.year == year and b.observed is not None]
    if not known:
        return None
    figure = new_figure(3.1, 3.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, zorder=1)
    for group in known:
        assert group.observed is not None  # noqa: S101 - filtered above
        observed = group.observed
        if observed.low is not None and observed.high is not None:
            axes.plot(
                [group.predicted] * 2, [observed.low, observed.high], color=BLUE, lw=1.4
            )
        axes.plot(group.predicted, observed.estimate, "o", color=BLUE, markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_aspect("equal")
    axes.set_title(f"Year {year}")
    axes.set_xlabel("Predicted probability")
    axes.set_ylabel("Observed (Kaplan-Meier)")
    axes.text(0.96, 0.05, "risk overestimated", ha="right", color=MUTED, fontsize=7.5)
    axes.text(0.04, 0.91, "risk underestimated", ha="left", color=MUTED, fontsize=7.5)
    described = f"Calibration at year {year}: {len(known)} groups of patients."
    return to_svg(figure, f"calibration-{year}", described)


@styled
def plot_risk_groups(
    groups: Sequence[GroupCurve], minimum_cell: int, endpoint: str
) -> str | None:
    """Draw the Kaplan-Meier curves of the risk groups, numbers at risk beneath."""
    if not groups:
        return None
    figure = new_figure(6.0, 3.5 + 0.2 * len(groups))
    axes, table = figure.subplots(2, 1, height_ratios=(3.1, 0.2 * len(groups)))
    styles = _group_styles(len(groups))
    ends = []
    for group, (colour, dash) in zip(groups, styles, strict=True):
        years = np.asarray(group.time_months) / MONTHS_PER_YEAR
        axes.step(years, group.survival, dash, where="post", color=colour, lw=1.7)
        _fill_interval(axes, group, colour)
        ends.append((float(years[-1]), group.survival[-1], group.label, colour))
    last = max(end[0] for end in ends)
    axes.set(ylim=(0, 1.02), xlim=(0, last * 1.005))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_title(f"Still free of the event ({endpoint})")
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Years after resection")
    label_line_ends(axes, ends, gap=0.075)
    _draw_at_risk(table, groups, minimum_cell, axes.get_xlim())
    described = "; ".join(
        f"{g.label} {g.survival[-1]:.2f} at the end of follow-up" for g in groups
    )
    return to_svg(figure, "risk-groups", f"Kaplan-Meier curves: {described}.")


def _draw_at_risk(
    axes: Axes,
    groups: Sequence[GroupCurve],
    minimum_cell: int,
    limits: tuple[float, float],
) -> None:
    """Write the numbers at risk under the curves, one row for each group."""
    axes.set(xlim=limits, ylim=(len(groups) - 0.5, -0.5), xticks=[])
    axes.set_title("Number at risk", fontsize=8.5, fontweight="normal", color=MUTED)
    axes.set_yticks(range(len(groups)), [group.label for group in groups])
    axes.tick_params(axis="y", length=0, pad=14)
    axes.spines[:].set_visible(False)
    styles = _group_styles(len(groups))
    for row, (group, (colour, _)) in enumerate(zip(groups, styles, strict=True)):
        axes.get_yticklabels()[row].set_color(colour)
        for months, at_risk in zip(group.times_at_risk, group.at_risk, strict=True):
            if months / MONTHS_PER_YEAR <= limits[1]:
                text = count(at_risk, minimum_cell)
                axes.text(
                    months / MONTHS_PER_YEAR,
                    row,
                    text,
                    ha="center",
                    va="center_baseline",
                )


def _fill_interval(axes: Axes, group: GroupCurve, colour: str) -> None:
    """Shade the interval of a curve where the data determine it."""
    known = [
        (months / MONTHS_PER_YEAR, low, high)
        for months, low, high in zip(
            group.time_months, group.low, group.high, strict=True
        )
        if low is not None and high is not None
    ]
    if known:
        years, low, high = zip(*known, strict=True)
        axes.fill_between(years, low, high, step="post", color=colour, alpha=0.1, lw=0)


def _group_styles(num_groups: int) -> list[tuple[str, str]]:
    """Give each group a colour and a dash, from low risk to high."""
    if num_groups == 1:
        return [(BLUE, "-")]
    return [(BLUE, "-"), *[(GREEN, "--")] * (num_groups - 2), (VERMILLION, "-.")]


def _known(points: Sequence[tuple[int, float | None]]) -> _Points:
    """Leave out the rounds that lack the measure."""
    return [(float(number), value) for number, value in points if value is not None]


def _columns(points: _Points) -> tuple[list[float], list[float]]:
    """Split points into their x and y values."""
    return [number for number, _ in points], [value for _, value in points]
