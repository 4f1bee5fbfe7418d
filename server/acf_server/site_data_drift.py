"""Where the sites' data differ more than sites of one study should.

Every finding names two sites: of all pairs the one that differs most. It says what may
be behind the difference; which of the two is right, nobody can tell from here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

from acf_server.site_data_difference import (
    Difference,
    DriftWarning,
    Pair,
    critical_z,
    make_difference,
    pooled_deviation,
    worst_of,
)
from acfnet_core.federation.site_summary import Moments, SiteSummary

SPACING_RATIO = 2.0
"""Of median slice spacings. 1.5 and 5 mm are both common; what a network sees of small
tumours and texture is then not the same."""
LIVER_HU = 15.0
"""Between mean livers. Portal venous and unenhanced or arterial phases differ by 30 HU
and more, scanners and kernels by a few."""
LIVER_DEVIATIONS = 2.0
"""Of the patients' own spread: beyond it, hardly a liver of one site would be usual at
the other."""
MEAN_DEVIATIONS = 0.5
"""Standardised mean difference: Cohen's "medium". Hospitals differ in whom they operate
on by less; units and codings, when confused, by more."""
MISSING_POINTS = 20.0
"""Percentage points. A column that one site rarely has teaches which site a patient is
of."""


def find_drift(
    summaries: Sequence[SiteSummary], *, contract_sha256: str
) -> tuple[DriftWarning, ...]:
    """Compare the summaries of several sites, and each with the coordinator's contract.

    A figure that a site withholds is compared with none.
    """
    pairs = list(combinations(summaries, 2))
    features = list(dict.fromkeys(name for s in summaries for name in s.features))
    # The comparisons of means and codes are one family.
    num_tests = len(pairs) * sum(_num_figures(summaries, name) for name in features)
    found: list[DriftWarning | None] = [
        *_other_contracts(summaries, contract_sha256),
        worst_of(pairs, _compare_spacing),
        worst_of(pairs, _compare_liver),
        worst_of(pairs, lambda pair: _compare_events(pair, len(pairs))),
    ]
    for name in features:
        found.append(worst_of(pairs, _comparison_of_feature(name, num_tests)))
        found.append(worst_of(pairs, _comparison_of_missing(name)))
    return tuple(warning for warning in found if warning is not None)


def _other_contracts(
    summaries: Iterable[SiteSummary], contract_sha256: str
) -> Iterator[DriftWarning]:
    for summary in summaries:
        if summary.contract_sha256 != contract_sha256:
            yield DriftWarning(
                kind="contract",
                sites=(summary.site,),
                figures=f"contract: {summary.site} {summary.contract_sha256[:12]}, "
                f"the coordinator {contract_sha256[:12]}",
                meaning="Its data was prepared under another contract; a run will "
                "refuse it until it is admitted and prepared anew.",
            )


def _compare_spacing(pair: Pair) -> Difference | None:
    told = [s.scans.slice_spacing_mm if s.scans else None for s in pair]
    if told[0] is None or told[1] is None:
        return None
    medians = (told[0].median, told[1].median)
    low, high = sorted(medians)
    return make_difference(
        "slice_spacing",
        pair,
        medians,
        excess=high / max(low, 0.1) / SPACING_RATIO,
        title="median slice spacing",
        shown=[f"{m:g} mm" for m in medians],
        counts=[_scans_of(s) for s in pair],
        meaning="Other protocols or reconstructions; ask for the thinner series.",
    )


def _compare_liver(pair: Pair) -> Difference | None:
    told = [s.scans.liver_hu if s.scans else None for s in pair]
    if told[0] is None or told[1] is None:
        return None
    one, other = told[0], told[1]
    gap = abs(one.mean - other.mean)
    spread = pooled_deviation(one, other)
    excess = gap / LIVER_HU
    if spread > 0:
        excess = max(excess, gap / (LIVER_DEVIATIONS * spread))
    return make_difference(
        "liver_hu",
        pair,
        (one.mean, other.mean),
        excess=excess,
        title="mean HU of the liver",
        shown=[f"{m.mean:g} (sd {m.standard_deviation:g})" for m in (one, other)],
        counts=[_scans_of(s) for s in pair],
        meaning="Another contrast phase, fatty livers, or a wrong rescale of one site.",
    )


def _compare_events(pair: Pair, num_pairs: int) -> Difference | None:
    told = [s.outcome for s in pair]
    if told[0] is None or told[1] is None:
        return None
    events = (told[0].num_events, told[1].num_events)
    if events[0] is None or events[1] is None:
        return None
    sizes = (pair[0].num_patients, pair[1].num_patients)
    rates = (events[0] / sizes[0], events[1] / sizes[1])
    shared = sum((events[0], events[1])) / sum(sizes)
    error = math.sqrt(shared * (1 - shared) * (1 / sizes[0] + 1 / sizes[1]))
    z = abs(rates[0] - rates[1]) / error if error > 0 else 0.0
    follow_ups = [told[0].median_follow_up_years, told[1].median_follow_up_years]
    followed = [
        "follow-up not told" if years is None else f"followed {years:g} years"
        for years in follow_ups
    ]
    return make_difference(
        "event_rate",
        pair,
        rates,
        excess=z / critical_z(num_pairs),
        title="patients with an event",
        shown=[f"{100 * r:.0f} %, {f}" for r, f in zip(rates, followed, strict=True)],
        counts=[f"n {n}" for n in sizes],
        meaning="Other follow-up, another definition of the event, or other patients.",
    )


def _comparison_of_feature(
    name: str, num_tests: int
) -> Callable[[Pair], Difference | None]:
    def compare(pair: Pair) -> Difference | None:
        counts = tuple(s.least_known(name) for s in pair)
        if not counts[0] or not counts[1]:
            return None
        sizes = (counts[0], counts[1])
        options = [
            make_difference(
                "feature",
                pair,
                (one.mean, other.mean),
                excess=_mean_excess(one, other, sizes, num_tests),
                title=title,
                shown=[_show_mean(one, is_share), _show_mean(other, is_share)],
                counts=[_known_of(s, name) for s in pair],
                meaning="Another unit or coding, or other patients.",
                feature=name,
            )
            for title, one, other, is_share in _figures_of(pair, name)
        ]
        return max(options, key=lambda one: one.excess, default=None)

    return compare


def _comparison_of_missing(name: str) -> Callable[[Pair], Difference | None]:
    def compare(pair: Pair) -> Difference | None:
        known = tuple(s.least_known(name) for s in pair)
        if known[0] is None or known[1] is None:
            return None
        missing = tuple(
            100 * (1 - n / s.num_patients)
            for n, s in zip((known[0], known[1]), pair, strict=True)
        )
        return make_difference(
            "missing",
            pair,
            (missing[0], missing[1]),
            excess=abs(missing[0] - missing[1]) / MISSING_POINTS,
            title=f"{name}, missing",
            shown=[f"{share:.0f} %" for share in missing],
            counts=[f"n {s.num_patients}" for s in pair],
            meaning="A column that one site does not collect, or does not map.",
            feature=name,
        )

    return compare


def _figures_of(pair: Pair, name: str) -> Iterator[tuple[str, Moments, Moments, bool]]:
    """Yield what can be compared of a feature: its mean, or the share of each code."""
    one, other = (s.features.get(name) for s in pair)
    if one is None or other is None:
        return
    if one.moments is not None and other.moments is not None:
        yield f"{name}, mean", one.moments, other.moments, False
    if not (one.codes and other.codes and one.num_known and other.num_known):
        return
    for code, count in one.codes.items():
        count_there = other.codes.get(code)
        if count is not None and count_there is not None:
            shares = (count / one.num_known, count_there / other.num_known)
            one_share, other_share = map(_moments_of_share, shares)
            yield f"{name} = {code}", one_share, other_share, True


def _num_figures(summaries: Iterable[SiteSummary], name: str) -> int:
    features = [s.features.get(name) for s in summaries]
    return max(
        (len(f.codes) if f.codes else 1 for f in features if f is not None), default=1
    )


def _moments_of_share(share: float) -> Moments:
    return Moments(mean=share, standard_deviation=math.sqrt(share * (1 - share)))


def _mean_excess(
    one: Moments, other: Moments, sizes: tuple[int, int], num_tests: int
) -> float:
    """Return how far two means are apart; both the size and chance must be passed.

    Source: Austin 2009, doi:10.1002/sim.3697, for the standardised difference.
    """
    gap, spread = abs(one.mean - other.mean), pooled_deviation(one, other)
    if spread == 0:
        return math.inf if gap > 0 else 0.0
    variances = (one.standard_deviation**2, other.standard_deviation**2)
    error = math.sqrt(variances[0] / sizes[0] + variances[1] / sizes[1])
    return min(gap / spread / MEAN_DEVIATIONS, gap / error / critical_z(num_tests))


def _show_mean(moments: Moments, is_share: bool) -> str:
    if is_share:
        return f"{100 * moments.mean:.0f} %"
    return f"{moments.mean:g} (sd {moments.standard_deviation:g})"


def _scans_of(summary: SiteSummary) -> str:
    scans = summary.scans
    if scans is None or scans.num_with_scans is None:
        return "n withheld"
    return f"n {scans.num_with_scans}"


def _known_of(summary: SiteSummary, name: str) -> str:
    feature = summary.features.get(name)
    told = None if feature is None else feature.num_known
    return f"n {told}" if told is not None else f"n >= {summary.least_known(name)}"
