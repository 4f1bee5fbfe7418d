"""Splits of patients, seeded and stratified by event."""

import numpy as np
from jaxtyping import Bool, Int


def split_patients(
    events: Bool[np.ndarray, " patient"], *, fraction: float, seed: int
) -> tuple[Int[np.ndarray, " first"], Int[np.ndarray, " second"]]:
    """Split patients in two, keeping the share of events about equal in both.

    Args:
        events: Whether each patient had the event.
        fraction: Share of the patients of each stratum in the first part, 0 to 1.
        seed: Decides who goes where; the same seed gives the same split.

    Returns:
        The indices of the first and of the second part, each in ascending order.

    Raises:
        ValueError: `fraction` is outside 0 to 1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction must be from 0 to 1, got {fraction}")
    rng = np.random.default_rng(seed)
    is_first = np.zeros(events.shape[0], np.bool_)
    for stratum in (False, True):
        members = np.flatnonzero(events == stratum)
        num_first = round(fraction * members.size)
        is_first[rng.permutation(members)[:num_first]] = True
    return np.flatnonzero(is_first), np.flatnonzero(~is_first)
