"""The lines in which `data summary` shows what would leave the site."""

from collections.abc import Iterator

from acfnet_core.federation.site_summary import (
    FeatureSummary,
    OutcomeSummary,
    Quartiles,
    ScanSummary,
    SiteSummary,
)

WITHHELD = "withheld"
TOO_CLOSE = "left out: too close to an earlier release"

Row = tuple[str, str, str]


def summary_rows(summary: SiteSummary) -> Iterator[Row]:
    """Yield a row for each thing told: its name, how many are known, its figures."""
    told = f"{summary.contract_name} {summary.contract_sha256[:12]}"
    yield "site", "", f"{summary.site} of {summary.consortium}"
    yield "release", "", f"{summary.release}, by acfnet {summary.acfnet_version}"
    yield "contract", "", f"{told}, minimum cell {summary.minimum_cell}"
    yield "patients", str(summary.num_patients), ""
    if summary.outcome is None:
        yield "outcome", "", TOO_CLOSE
    else:
        yield from _outcome_rows(summary.outcome)
    if summary.scans is not None:
        yield from _scan_rows(summary.scans)
    else:
        yield "scans", "", f"not in the contract, or {TOO_CLOSE}"
    for name, feature in summary.features.items():
        yield _feature_row(name, feature)
    for code, count in summary.refused.items():
        yield f"not used: {code}", "", _few(count, summary)


def _outcome_rows(outcome: OutcomeSummary) -> Iterator[Row]:
    yield "events", _show(outcome.num_events), ""
    years = outcome.median_follow_up_years
    shown = WITHHELD if years is None else f"{years:g} years"
    yield "median follow-up", "", shown
    for year, count in outcome.num_at_risk.items():
        yield f"at risk at {year} years", _show(count), ""


def _scan_rows(scans: ScanSummary) -> Iterator[Row]:
    by_number = scans.patients_by_scans
    shown = (
        WITHHELD
        if by_number is None
        else ", ".join(f"{n} with {number}" for number, n in by_number.items())
    )
    yield "patients with scans", _show(scans.num_with_scans), shown
    yield "scans", _show(scans.num_scans), ""
    yield "slice spacing", "", _show_quartiles(scans.slice_spacing_mm)
    yield "pixel spacing", "", _show_quartiles(scans.pixel_spacing_mm)
    liver = scans.liver_hu
    hu = (
        WITHHELD
        if liver is None
        else f"mean {liver.mean:g} HU, sd {liver.standard_deviation:g}"
    )
    yield "liver", "", hu


def _feature_row(name: str, feature: FeatureSummary | None) -> Row:
    if feature is None:
        return name, "", TOO_CLOSE
    known = _show(feature.num_known)
    if feature.codes is not None:
        codes = (f"{code}: {_show(n)}" for code, n in feature.codes.items())
        return name, known, ", ".join(codes)
    moments = feature.moments
    if moments is None:
        return name, known, WITHHELD
    return name, known, f"mean {moments.mean:g}, sd {moments.standard_deviation:g}"


def _show(count: int | None) -> str:
    return WITHHELD if count is None else str(count)


def _few(count: int | None, summary: SiteSummary) -> str:
    """Show a count of studies; only a first release withholds for one reason alone."""
    if count is not None:
        return str(count)
    return f"<{summary.minimum_cell}" if summary.release == 1 else WITHHELD


def _show_quartiles(quartiles: Quartiles | None) -> str:
    if quartiles is None:
        return WITHHELD
    if quartiles.lower is None or quartiles.upper is None:
        return f"median {quartiles.median:g} mm; quartiles {WITHHELD}"
    return (
        f"median {quartiles.median:g} mm, quartiles {quartiles.lower:g} and "
        f"{quartiles.upper:g}"
    )
