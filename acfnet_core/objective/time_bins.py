"""From times and events to bins: how many a patient passed and how the passing ended.

A bin in which no patient was at risk has no likelihood: its hazard is what the start of
training and the smoothness made of it. `supported_bins` tells how far a cohort reaches.

Axes: `patient bin`.
"""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

CENSORED = 0
EVENT = 1
COMPETING_DEATH = 2


def discretise_times(
    time_months: Float[Tensor, " patient"],
    event: Int[Tensor, " patient"],
    *,
    num_bins: int,
    bin_width_months: float,
) -> tuple[Int64[Tensor, " patient"], Int64[Tensor, " patient"]]:
    """Count the bins that each patient passed wholly, and say what ended the count.

    Bin k covers `(k * width, (k + 1) * width]`, so an event at exactly 6 months lies in
    the first half-year, and a patient censored at exactly 6 months passed it. Whoever
    passes the last bin is censored there, whatever happens later.

    Args:
        time_months: Months from resection to event or censoring, 0 or more.
        event: 0 censored, 1 event, 2 competing death.
        num_bins: Number of bins, K.
        bin_width_months: Width of each.

    Returns:
        `time_bin`, bins passed (0..K): for an event also the index of its bin; and
        `kind`, coded as `event`.

    Raises:
        ValueError: A time is negative or not finite, or an event has another code.

    Example:
        >>> import torch
        >>> times = torch.tensor([6.0, 6.0, 7.0, 200.0])
        >>> events = torch.tensor([1, 0, 1, 1])
        >>> discretise_times(times, events, num_bins=16, bin_width_months=6.0)
        (tensor([ 0,  1,  1, 16]), tensor([1, 0, 1, 0]))
    """
    if not bool(((time_months >= 0) & time_months.isfinite()).all()):
        raise ValueError("time_months must be finite and 0 or more")
    if not bool(((event >= CENSORED) & (event <= COMPETING_DEATH)).all()):
        raise ValueError("event must be 0 (censored), 1 (event) or 2 (competing death)")
    position = _position(time_months, bin_width_months)
    passed = position.floor()
    ended = _last_bin(position)
    time_bin = torch.where(event == CENSORED, passed, ended).long()
    kind = torch.where(time_bin < num_bins, event.long(), CENSORED)
    return time_bin.clamp(max=num_bins), kind


def num_at_risk(
    time_months: Float[Tensor, " patient"], *, num_bins: int, bin_width_months: float
) -> Int64[Tensor, " bin"]:
    """Count the patients still at risk at the start of each bin.

    Bin k starts just after `k * width`: whoever is followed to exactly that time, with
    or without an event, is not at risk in it. Everybody is at risk in the first bin.

    Args:
        time_months: Months to event or censoring, 0 or more.
        num_bins: Number of bins, K.
        bin_width_months: Width of each.

    Returns:
        The counts, which never rise.

    Example:
        >>> import torch
        >>> num_at_risk(
        ...     torch.tensor([0.0, 6.0, 7.0, 30.0]), num_bins=3, bin_width_months=6.0
        ... )
        tensor([4, 2, 1])
    """
    last = _last_bin(_position(time_months, bin_width_months))
    bins = torch.arange(num_bins, device=time_months.device)
    return (last.unsqueeze(1) >= bins).sum(dim=0)


def supported_bins(at_risk: Int64[Tensor, " bin"], *, minimum: int) -> int:
    """Return how many bins from the first one have at least `minimum` at risk.

    Args:
        at_risk: From `num_at_risk`.
        minimum: Fewest patients on whom a hazard may rest, 1 or more.

    Raises:
        ValueError: `minimum` is below 1.

    Example:
        >>> import torch
        >>> supported_bins(torch.tensor([40, 12, 9, 0]), minimum=10)
        2
    """
    if minimum < 1:
        raise ValueError(f"minimum is {minimum}; expected 1 or more")
    return int((at_risk >= minimum).sum())


def _position(
    time_months: Float[Tensor, " patient"], bin_width_months: float
) -> Float[Tensor, " patient"]:
    """Return the times in bins, exact for whole months.

    In float32 a quotient may land beside the edge of a bin.
    """
    return time_months.to(torch.float64) / bin_width_months


def _last_bin(position: Float[Tensor, " patient"]) -> Float[Tensor, " patient"]:
    """Return the index of the bin `(k, k + 1]` that a time lies in; 0 for time 0."""
    return (position.ceil() - 1).clamp(min=0)
