"""The sites' summaries side by side: features as rows, sites as columns, n in each."""

from collections.abc import Callable, Iterator, Sequence

from acfnet_core.federation.site_summary import (
    RISK_YEARS,
    FeatureSummary,
    Moments,
    OutcomeSummary,
    Quartiles,
    ScanSummary,
    SiteSummary,
)

WITHHELD = "-"
"""Withheld by the site, or not told at all."""


def table_rows(summaries: Sequence[SiteSummary]) -> Iterator[list[str]]:
    """Yield the rows: a name, then a cell for each site."""

    def row(name: str, cell: Callable[[SiteSummary], str]) -> list[str]:
        return [name, *(cell(summary) for summary in summaries)]

    yield row("contract", lambda s: s.contract_sha256[:12])
    yield row("patients", lambda s: str(s.num_patients))
    yield row("events", _show_events)
    yield row("median follow-up", lambda s: _show_follow_up(s.outcome))
    for year in RISK_YEARS:
        yield row(f"at risk at {year} years", _risk_cell(str(year)))
    yield row("patients with scans", lambda s: _show_scans(s.scans))
    yield row("slice spacing, mm", lambda s: _show_spacing(s.scans, "slice"))
    yield row("pixel spacing, mm", lambda s: _show_spacing(s.scans, "pixel"))
    yield row("liver, HU", _show_liver)
    for name in dict.fromkeys(name for s in summaries for name in s.features):
        yield row(name, _feature_cell(name))
    for code in dict.fromkeys(code for s in summaries for code in s.refused):
        yield row(f"not used: {code}", _refused_cell(code))


def _show_events(summary: SiteSummary) -> str:
    outcome = summary.outcome
    if outcome is None or outcome.num_events is None:
        return WITHHELD
    share = 100 * outcome.num_events / summary.num_patients
    return f"{outcome.num_events} ({share:.0f} %)"


def _show_follow_up(outcome: OutcomeSummary | None) -> str:
    years = None if outcome is None else outcome.median_follow_up_years
    return WITHHELD if years is None else f"{years:g} years"


def _risk_cell(year: str) -> Callable[[SiteSummary], str]:
    def cell(summary: SiteSummary) -> str:
        outcome = summary.outcome
        return _show(None if outcome is None else outcome.num_at_risk.get(year))

    return cell


def _refused_cell(code: str) -> Callable[[SiteSummary], str]:
    return lambda summary: _show(summary.refused.get(code, 0))


def _show_scans(scans: ScanSummary | None) -> str:
    if scans is None:
        return WITHHELD
    of = "" if scans.num_scans is None else f", {scans.num_scans} scans"
    return f"{_show(scans.num_with_scans)}{of}"


def _show_spacing(scans: ScanSummary | None, what: str) -> str:
    if scans is None:
        return WITHHELD
    told: Quartiles | None = (
        scans.slice_spacing_mm if what == "slice" else scans.pixel_spacing_mm
    )
    if told is None:
        return WITHHELD
    if told.lower is None or told.upper is None:
        return f"{told.median:g}"
    return f"{told.median:g} ({told.lower:g} to {told.upper:g})"


def _show_liver(summary: SiteSummary) -> str:
    scans = summary.scans
    if scans is None or scans.liver_hu is None:
        return WITHHELD
    return f"{_show_moments(scans.liver_hu)}, n {_show(scans.num_with_scans)}"


def _feature_cell(name: str) -> Callable[[SiteSummary], str]:
    def cell(summary: SiteSummary) -> str:
        feature = summary.features.get(name)
        if feature is None:
            return WITHHELD
        return f"{_show_feature(feature)}, n {_show_known(summary, name)}"

    return cell


def _show_feature(feature: FeatureSummary) -> str:
    if feature.codes is not None:
        return " / ".join(f"{code}: {_show(n)}" for code, n in feature.codes.items())
    return WITHHELD if feature.moments is None else _show_moments(feature.moments)


def _show_known(summary: SiteSummary, name: str) -> str:
    feature, least = summary.features.get(name), summary.least_known(name)
    if feature is not None and feature.num_known is None and least is not None:
        return f">= {least}"
    return _show(least)


def _show_moments(moments: Moments) -> str:
    return f"{moments.mean:g} (sd {moments.standard_deviation:g})"


def _show(count: int | None) -> str:
    return WITHHELD if count is None else str(count)
