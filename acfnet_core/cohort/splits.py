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


def draw_folds(
    events: Bool[np.ndarray, " patient"], *, num_folds: int, seed: int
) -> Int[np.ndarray, " patient"]:
    """Number the fold of every patient, with about equal shares of events.

    Args:
        events: Whether each patient had the event.
        num_folds: At least 2.
        seed: Decides who goes where; the same seed gives the same folds.

    Raises:
        ValueError: There are fewer than two folds, or fewer patients than folds.
    """
    if not 2 <= num_folds <= events.size:
        raise ValueError(
            f"num_folds must be from 2 to the {events.size} patients, got {num_folds}"
        )
    rng = np.random.default_rng(seed)
    fold = np.empty(events.size, np.int64)
    for stratum in (False, True):
        members = rng.permutation(np.flatnonzero(events == stratum))
        fold[members] = np.arange(members.size) % num_folds
    return fold
