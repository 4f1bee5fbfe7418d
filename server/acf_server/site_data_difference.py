"""One difference between two sites: how far beyond its threshold, and in words."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from acfnet_core.federation.site_summary import Moments, SiteSummary

FAMILY_ERROR = 0.05
"""The chance that any of a family of comparisons that ask for it (event rates; means
and codes) is announced without cause, by Bonferroni's bound."""

Kind = Literal[
    "contract", "slice_spacing", "liver_hu", "event_rate", "feature", "missing"
]
Pair = tuple[SiteSummary, SiteSummary]


@dataclass(frozen=True, kw_only=True)
class DriftWarning:
    """One difference that somebody should look at.

    Attributes:
        sites: The sites that are meant; of a pair, the lower figure first.
        figures: What was found, with the number of patients.
        meaning: What may be behind it.
        num_more_pairs: How many other pairs of sites are beyond the threshold too.
    """

    kind: Kind
    sites: tuple[str, ...]
    figures: str
    meaning: str
    feature: str | None = None
    num_more_pairs: int = 0

    def describe(self) -> str:
        """Return the warning as a line for people."""
        more = self.num_more_pairs
        others = f" ({more} more pairs of sites)" if more else ""
        return f"{self.figures}{others}. {self.meaning}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far a pair is apart, as a multiple of the threshold, and the warning."""

    excess: float
    warning: DriftWarning


def worst_of(
    pairs: Iterable[Pair], compare: Callable[[Pair], Difference | None]
) -> DriftWarning | None:
    """Return the warning about the pair that differs most."""
    compared = (compare(pair) for pair in pairs)
    beyond = [one for one in compared if one is not None and one.excess > 1]
    if not beyond:
        return None
    worst = max(beyond, key=lambda one: one.excess).warning
    return replace(worst, num_more_pairs=len(beyond) - 1)


def make_difference(
    kind: Kind,
    pair: Pair,
    values: tuple[float, float],
    *,
    excess: float,
    title: str,
    shown: Sequence[str],
    counts: Sequence[str],
    meaning: str,
    feature: str | None = None,
) -> Difference:
    """Put a difference into words, the lower of the two values first."""
    order = (0, 1) if values[0] <= values[1] else (1, 0)
    sides = [f"{pair[i].site} {shown[i]} ({counts[i]})" for i in order]
    return Difference(
        excess=excess,
        warning=DriftWarning(
            kind=kind,
            sites=tuple(pair[i].site for i in order),
            figures=f"{title}: {sides[0]}, {sides[1]}",
            meaning=meaning,
            feature=feature,
        ),
    )


def pooled_deviation(one: Moments, other: Moments) -> float:
    """Return the root of the mean of two variances."""
    return math.sqrt((one.standard_deviation**2 + other.standard_deviation**2) / 2)


def critical_z(num_tests: int) -> float:
    """Return the two-sided bound of z for one of so many comparisons."""
    return NormalDist().inv_cdf(1 - FAMILY_ERROR / (2 * max(1, num_tests)))
