"""Checks of observed times and events, the same for every metric.

The types carry no shapes here: to tell faulty shapes is this module's work.
"""

import numpy as np


def check_outcomes(time_months: np.ndarray, event: np.ndarray) -> None:
    """Refuse outcomes that no estimator can use.

    Args:
        time_months: Time to event or censoring, 0 or more.
        event: True where the event was observed.

    Raises:
        ValueError: The lengths differ, there is no patient, or a time is not finite or
            is negative, or the events are not bool.
    """
    if time_months.shape != event.shape or time_months.ndim != 1:
        raise ValueError(
            f"time_months has shape {time_months.shape} and event {event.shape}; "
            "both must be one-dimensional and of one length."
        )
    if time_months.size == 0:
        raise ValueError("There is no patient; at least one is needed.")
    if event.dtype != np.bool_:
        raise ValueError(f"event has type {event.dtype}; expected bool.")
    num_faulty = int(np.sum(~np.isfinite(time_months) | (time_months < 0)))
    if num_faulty:
        raise ValueError(
            f"{num_faulty} of {time_months.size} times are negative or not finite; "
            "every time must be 0 months or more."
        )
