"""From times and events to bins: how many a patient passed and how the passing ended.

Axes: `patient`.
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
    # Exact for whole months: in float32 a quotient may land beside the edge of a bin.
    position = time_months.to(torch.float64) / bin_width_months
    passed = position.floor()
    ended = (position.ceil() - 1).clamp(min=0)
    time_bin = torch.where(event == CENSORED, passed, ended).long()
    kind = torch.where(time_bin < num_bins, event.long(), CENSORED)
    return time_bin.clamp(max=num_bins), kind
