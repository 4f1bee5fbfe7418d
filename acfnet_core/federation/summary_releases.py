"""Two summaries of one site, side by side, must not tell of few patients either.

Whoever holds both can take one from the other. So a new summary is compared with every
one that was released before it. If the number of patients differs by fewer than the
minimum cell, nothing is released. Otherwise each block (outcome, scans, a feature) is
left out in which a group of patients differs by so few, or in which figures moved while
no group did: one patient's value may have changed.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from acfnet_core.errors import DataError
from acfnet_core.federation.site_summary import (
    FeatureSummary,
    OutcomeSummary,
    ScanSummary,
    SiteSummary,
)
from acfnet_core.withholding import withhold

_ROUNDING = 0.01
"""Relative; two figures to three significant digits are each off by half of it."""

_Block = TypeVar("_Block", OutcomeSummary, ScanSummary, FeatureSummary)


def release_after(
    summary: SiteSummary,
    earlier: Sequence[SiteSummary],
    *,
    spans: Mapping[str, float],
) -> SiteSummary:
    """Return what of a new summary may be released after the earlier ones.

    Args:
        summary: The new one; its number does not matter.
        earlier: All that were released before, oldest first.
        spans: Feature -> how far a value can move at most, on the scale of its mean;
            a feature without one is absent.

    Returns:
        The summary that may leave, with its number; one that was released last, if it
        says the same.

    Raises:
        DataError: `data.summary_too_close`.
    """
    for other in earlier:
        _refuse_close(summary, other)
    reduced = summary
    for other in earlier:
        reduced = _leave_out(reduced, other, spans)
    if earlier and _says_the_same(reduced, earlier[-1]):
        return earlier[-1]
    return reduced.model_copy(update={"release": len(earlier) + 1})


def _refuse_close(summary: SiteSummary, other: SiteSummary) -> None:
    minimum = max(summary.minimum_cell, other.minimum_cell)
    distance = abs(summary.num_patients - other.num_patients)
    if withhold(distance, minimum=minimum) is None:
        raise DataError(
            "data.summary_too_close",
            f"the number of patients differs from that of release {other.release}, "
            f"which has left the site, by fewer than {minimum}: the two together would "
            "tell of these few.",
            remedy=f"Wait until {minimum} patients or more have been added; until then "
            "the earlier summary stands.",
        )


def _says_the_same(summary: SiteSummary, other: SiteSummary) -> bool:
    return summary.model_copy(update={"release": other.release}) == other


def _leave_out(
    summary: SiteSummary, other: SiteSummary, spans: Mapping[str, float]
) -> SiteSummary:
    """Leave out every block that is too close to the same block of another release."""
    minimum = max(summary.minimum_cell, other.minimum_cell)
    sizes = (summary.num_patients, other.num_patients)

    def reduce(new: _Block | None, old: _Block | None) -> _Block | None:
        if new is None or old is None:
            return new
        return None if _are_close((new, old), sizes, minimum) else new

    features = {}
    for name, new in summary.features.items():
        old = other.features.get(name)
        is_certain = (
            new is not None
            and old is not None
            and name in spans
            and _moved_many((new, old), sizes, minimum, spans[name])
        )
        features[name] = new if is_certain else reduce(new, old)
    refused = {
        code: None if _is_close(count, other.refused.get(code, 0), minimum) else count
        for code, count in summary.refused.items()
    }
    return summary.model_copy(
        update={
            "outcome": reduce(summary.outcome, other.outcome),
            "scans": reduce(summary.scans, other.scans),
            "features": features,
            "refused": refused,
        }
    )


def _are_close(
    blocks: tuple[_Block, _Block], sizes: tuple[int, int], minimum: int
) -> bool:
    """Say whether two releases of a block may differ by few patients."""
    ours, theirs = (
        block.cells(size) for block, size in zip(blocks, sizes, strict=True)
    )
    shared = ours.keys() & theirs.keys()
    if any(_is_close(ours[group], theirs[group], minimum) for group in shared):
        return True
    is_unmoved = all(ours[group] == theirs[group] for group in shared)
    return is_unmoved and blocks[0] != blocks[1]


def _is_close(count: int | None, other: int | None, minimum: int) -> bool:
    if count is None or other is None:
        return False
    return withhold(abs(count - other), minimum=minimum) is None


def _moved_many(
    blocks: tuple[FeatureSummary, FeatureSummary],
    sizes: tuple[int, int],
    minimum: int,
    span: float,
) -> bool:
    """Say whether a mean moved further than few patients could have moved it.

    So a column in a wrong unit can be corrected and shown at once.
    """
    new, old = (block.moments for block in blocks)
    known = {block.num_known for block in blocks}
    if new is None or old is None or len({*sizes}) > 1 or len(known) > 1:
        return False
    least = known.pop() or sizes[0] - minimum + 1
    rounding = _ROUNDING * max(abs(new.mean), abs(old.mean))
    return abs(new.mean - old.mean) - rounding > (minimum - 1) * span / least
