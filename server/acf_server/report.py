"""The report of a run: one HTML file that needs nothing else and no network.

`read_content` gathers what the run's folder holds, `render_report` turns it into a page
and knows no file. The same folder gives the same bytes: nothing of the moment or the
machine of writing is in the page.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from acf_server import plots, report_numbers
from acf_server.report_sections import (
    describe_aggregation,
    describe_fitted_on,
    describe_groups,
    describe_limits,
    describe_personal,
    describe_sites,
    describe_start,
    describe_training_patients,
    find_difference,
    has_scans,
    shown_rounds,
)
from acf_server.report_traffic import describe_traffic
from acf_server.risk_map_files import read_risk_maps
from acf_server.run_files import (
    REPORT_FILE,
    RoundRecord,
    RunRecord,
    SiteRecord,
    read_rounds,
    read_run,
    read_sites,
    read_verdict,
)
from acfnet_core.evaluation.verdict import METRIC_NAMES, YEARS, Verdict
from acfnet_core.files import write_atomically
from acfnet_core.pictures.risk_map_panels import RiskMapPatient, plot_risk_maps
from acfnet_core.report_page import page_environment

NUM_PATIENTS_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that the report says, gathered from a run's folder."""

    run: RunRecord
    sites: tuple[SiteRecord, ...]
    rounds: tuple[RoundRecord, ...]
    verdict: Verdict | None
    risk_maps: tuple[RiskMapPatient, ...]


def write_report(run_folder: Path) -> Path:
    """Write report.html into a run's folder and return its path.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: A file of the folder has faults, or the page cannot be written.
    """
    path = run_folder / REPORT_FILE
    write_atomically(path, render_report(read_content(run_folder)).encode())
    return path


def read_content(run_folder: Path) -> ReportContent:
    """Gather what the report says.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: A file of the folder has faults.
    """
    return ReportContent(
        run=read_run(run_folder),
        sites=tuple(read_sites(run_folder)),
        rounds=tuple(read_rounds(run_folder)),
        verdict=read_verdict(run_folder),
        risk_maps=read_risk_maps(run_folder)[:NUM_PATIENTS_SHOWN],
    )


def render_report(content: ReportContent) -> str:
    """Turn what is known of a run into the page."""
    run, sites, verdict = content.run, content.sites, content.verdict
    minimum_cell = run.minimum_cell
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            run=run,
            sites=describe_sites(sites, minimum_cell),
            has_imaging=has_scans(sites),
            personal=describe_personal(sites),
            counted_from=describe_start(run),
            aggregation=describe_aggregation(run, sites),
            rounds=content.rounds,
            shown_rounds=shown_rounds(content.rounds),
            verdict=verdict,
            key_differences=find_difference(verdict),
            fitted_on=describe_fitted_on(verdict, sites, minimum_cell),
            risk_groups=describe_groups(verdict, minimum_cell),
            risk_maps=content.risk_maps,
            figures=_draw_figures(content),
            training_patients=describe_training_patients(sites, minimum_cell),
            traffic=describe_traffic(run, sites, content.rounds),
            limits_of_run=describe_limits(run, sites, verdict),
            calibration_years=YEARS,
        )
    )


def _draw_figures(content: ReportContent) -> dict[str, list[Markup]]:
    """Draw every figure that the content has numbers for, by section."""
    drawn: dict[str, list[str | None]] = {
        "rounds": [
            plots.plot_rounds_loss(content.rounds),
            plots.plot_rounds_concordance(content.rounds),
        ],
        "risk_maps": [
            plot_risk_maps(patient, f"risk-maps-{number}")
            for number, patient in enumerate(content.risk_maps, start=1)
        ],
        **_draw_verdict(content.verdict, content.run.endpoint),
    }
    # The SVG is ours: matplotlib escapes every text that stands in it.
    return {
        section: [Markup(svg) for svg in svgs if svg is not None]  # noqa: S704
        for section, svgs in drawn.items()
    }


def _draw_verdict(
    verdict: Verdict | None, endpoint: str
) -> dict[str, list[str | None]]:
    """Draw the figures of the held-out results."""
    if verdict is None:
        return {"differences": [], "calibration": [], "risk_groups": []}
    judged = [score for score in verdict.scores if score.name == verdict.model]
    return {
        "differences": [
            plots.plot_differences(verdict.differences, metric)
            for metric in METRIC_NAMES
        ],
        "calibration": [
            plots.plot_calibration(score.calibration, year)
            for score in judged
            for year in YEARS
        ],
        "risk_groups": [
            plots.plot_risk_groups(verdict.risk_groups, verdict.minimum_cell, endpoint)
        ],
    }


@cache
def _environment() -> Environment:
    """Return the templates with the ways in which numbers are written."""
    environment = page_environment("acf_server")
    for write in (
        report_numbers.count,
        report_numbers.decimal,
        report_numbers.duration,
        report_numbers.estimate_and_range,
        report_numbers.limits,
        report_numbers.metric_title,
        report_numbers.moment,
        report_numbers.probability,
        report_numbers.settings,
        report_numbers.size,
        report_numbers.whole,
    ):
        environment.filters[write.__name__] = write
    return environment
