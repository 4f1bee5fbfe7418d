"""The data report as one HTML page that needs nothing else and no network.

The same data gives the same bytes: nothing of the moment or the machine is in the page.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from acf_client.data_report import DataReport
from acf_client.data_report_scans import ShownScan
from acf_client.data_report_sections import (
    FollowUpFacts,
    count_codes_of,
    describe_features,
    describe_follow_up,
    describe_refusals,
)
from acfnet_core.cohort.contract import CHANNELS
from acfnet_core.cohort.prepared.stored_scan import (
    LEAST_LIVER_SHARE_INSIDE,
    LIVER_HU_RANGE,
    LIVER_ML_RANGE,
    MOST_TUMOUR_SHARE_OUTSIDE,
)
from acfnet_core.files import PRIVATE_MODE, write_atomically
from acfnet_core.pictures.contact_sheet import TILE_STYLE
from acfnet_core.pictures.data_plots import plot_codes, plot_follow_up, plot_numbers
from acfnet_core.report_page import page_environment, script_source

_Bounds = tuple[float | None, float | None]
_SCAN_MEASURES: tuple[
    tuple[str, str, Callable[[ShownScan], float | None], _Bounds, bool], ...
] = (
    ("time", "Months from resection", lambda s: s.time_months, (None, None), False),
    ("slices", "Between slices, mm", lambda s: s.slice_spacing_mm, (None, None), False),
    ("pixels", "Between pixels, mm", lambda s: s.pixel_spacing_mm, (None, None), False),
    (
        "hu",
        "Mean of the liver, HU",
        lambda s: s.measures.liver_hu,
        LIVER_HU_RANGE,
        False,
    ),
    ("liver", "Liver, ml", lambda s: s.measures.liver_ml, LIVER_ML_RANGE, False),
    ("tumour", "Tumours, ml", lambda s: s.measures.tumour_ml, (None, None), True),
    (
        "inside",
        "Liver inside the grid, %",
        lambda s: 100 * s.liver_share_inside,
        (100 * LEAST_LIVER_SHARE_INSIDE, None),
        False,
    ),
)
"""Name, heading, how it is read, bounds that are drawn, whether the axis is a log."""


def write_data_report(report: DataReport, path: Path) -> int:
    """Write the page, readable by its owner alone, and return its size in bytes.

    Raises:
        MachineError: It cannot be written.
    """
    content = render_data_report(report).encode()
    write_atomically(path, content, mode=PRIVATE_MODE)
    return len(content)


def render_data_report(report: DataReport) -> str:
    """Turn what is known of a site's data into the page."""
    environment = _environment()
    script = _read_script(environment)
    follow_up = describe_follow_up(report)
    imaging = report.contract.imaging
    return environment.get_template("data-report.html.jinja").render(
        report=report,
        check=report.check,
        endpoint=report.contract.endpoint,
        imaging=imaging,
        grid_mm=_grid_mm(report),
        window_hu=_window_hu(report),
        channels=CHANNELS,
        features=describe_features(report),
        feature_figures=_draw_features(report),
        follow_up=follow_up,
        follow_up_figure=_draw_follow_up(report, follow_up),
        scan_figures=_draw_scans(report.scans),
        refusals=describe_refusals(report),
        bounds={
            "share": 100 * LEAST_LIVER_SHARE_INSIDE,
            "ml": LIVER_ML_RANGE,
            "hu": LIVER_HU_RANGE,
            "outside": 100 * MOST_TUMOUR_SHARE_OUTSIDE,
        },
        tile_style=_ours(TILE_STYLE),
        script=_ours(script),
        script_source=_ours(script_source(script)),
    )


def _draw_features(report: DataReport) -> list[tuple[str, Markup | None]]:
    """Draw each feature's distribution; None where no value is known."""
    figures: list[tuple[str, Markup | None]] = []
    for place, name in enumerate(report.contract.features):
        column = report.contract.columns[name]
        values = report.values[name]
        known = values[np.isfinite(values)]
        figure_name = f"feature-{place}"
        svg = None
        if known.size and column.type == "number":
            label = name.replace("_", " ") + (f", {column.unit}" if column.unit else "")
            svg = plot_numbers(
                known,
                figure_name,
                label,
                bounds=(column.minimum, column.maximum),
                is_log=column.standardise.transform == "log1p",
            )
        elif known.size:
            counts = count_codes_of(column, known)
            svg = plot_codes(counts, figure_name, name.replace("_", " "))
        figures.append((name, None if svg is None else _ours(svg)))
    return figures


def _draw_follow_up(report: DataReport, facts: FollowUpFacts | None) -> Markup | None:
    if facts is None:
        return None
    title = f"Still free of the event ({report.contract.endpoint.name})"
    return _ours(plot_follow_up(facts.curve, "follow-up", title))


def _draw_scans(scans: Iterable[ShownScan]) -> list[tuple[str, Markup, int]]:
    """Draw the distributions of what was measured, each with its heading and n."""
    figures = []
    shown = tuple(scans)
    for name, heading, read, bounds, is_log in _SCAN_MEASURES:
        known = [value for value in map(read, shown) if value is not None]
        if known:
            values = np.array(known, np.float64)
            svg = plot_numbers(
                np.round(values, 3),
                f"scan-{name}",
                heading,
                bounds=bounds,
                is_log=is_log,
            )
            figures.append((heading, _ours(svg), len(known)))
    return figures


def _grid_mm(report: DataReport) -> str:
    imaging = report.contract.imaging
    if imaging is None:
        return ""
    sides = zip(imaging.grid_shape, imaging.grid_spacing_mm, strict=True)
    return " x ".join(f"{count * step:g}" for count, step in sides)


def _window_hu(report: DataReport) -> tuple[float, float]:
    imaging = report.contract.imaging
    if imaging is None:
        return 0.0, 0.0
    half = imaging.window_clip * imaging.window_width_hu
    return imaging.window_centre_hu - half, imaging.window_centre_hu + half


def _ours(text: str) -> Markup:
    """Take text as markup: it is ours, and what others wrote in it is escaped."""
    return Markup(text)  # noqa: S704


def _read_script(environment: Environment) -> str:
    return environment.get_template("contact-sheet.js").render()


def _months(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.1f} months"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


@cache
def _environment() -> Environment:
    """Return the templates with the ways in which numbers are written."""
    environment = page_environment("acf_client")
    environment.filters["months"] = _months
    environment.filters["signed"] = _signed
    environment.filters["ours"] = _ours
    return environment
