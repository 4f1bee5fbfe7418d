"""Predicted survival between the bin edges, and the single numbers taken from it.

A model predicts the survival at the right edges of its bins. Between two edges the
hazard is taken as constant, so the survival falls exponentially; it is 1 at time 0 and
stays flat behind the last edge.

Axes: `patient`; `bin` right edges, ascending; `query` times asked for.
"""

import numpy as np
from jaxtyping import Bool, Float

_TOLERANCE = 1e-6


def check_survival(
    survival: Float[np.ndarray, "patient bin"],
    bin_edges_months: Float[np.ndarray, " edge"],
) -> None:
    """Refuse what is not a survival curve.

    Raises:
        ValueError: The edges do not rise from above 0, the shapes differ, or a curve
            leaves 0..1 or rises by more than 1e-6.
    """
    if bin_edges_months.size == 0 or np.any(np.diff(bin_edges_months, prepend=0) <= 0):
        raise ValueError("bin_edges_months must be above 0 and strictly ascending.")
    if survival.shape[1] != bin_edges_months.size:
        raise ValueError(
            f"survival has {survival.shape[1]} bins, but there are "
            f"{bin_edges_months.size} bin edges."
        )
    inside = (survival >= -_TOLERANCE) & (survival <= 1 + _TOLERANCE)
    falls = np.all(np.diff(survival, axis=1) <= _TOLERANCE, axis=1)
    num_faulty = int(np.sum(~(inside.all(axis=1) & falls)))
    if num_faulty:
        raise ValueError(
            f"{num_faulty} of {len(survival)} survival curves leave 0 to 1 or rise; "
            "a survival curve starts at 1 and never rises."
        )


def has_prediction(
    survival: Float[np.ndarray, "patient bin"],
) -> Bool[np.ndarray, " patient"]:
    """Tell for which patients a curve was predicted (no NaN in the row)."""
    return ~np.isnan(survival).any(axis=1)


def interpolate_survival(
    survival: Float[np.ndarray, "patient bin"],
    bin_edges_months: Float[np.ndarray, " bin"],
    months: Float[np.ndarray, " query"],
) -> Float[np.ndarray, "patient query"]:
    """Evaluate each patient's curve, with a constant hazard inside a bin.

    S(t) = S(a)^(1-f) * S(b)^f for t = a + f * (b - a) in the bin (a, b].

    Source: Kvamme & Borgan 2021, doi:10.1007/s10985-021-09532-6, where it is called
    constant hazard interpolation. Ours: the curve stays flat behind the last edge.

    Args:
        survival: S at the right edge of each bin.
        bin_edges_months: The right edges, ascending.
        months: Times of 0 or more.

    Returns:
        The survival of each patient at each time.
    """
    edges = np.concatenate([[0.0], bin_edges_months])
    padded = _pad(survival)
    clipped = np.clip(months, 0.0, edges[-1])
    right = np.clip(np.searchsorted(edges, clipped, side="left"), 1, edges.size - 1)
    fraction = (clipped - edges[right - 1]) / (edges[right] - edges[right - 1])
    return np.power(padded[:, right - 1], 1.0 - fraction) * np.power(
        padded[:, right], fraction
    )


def restricted_mean_months(
    survival: Float[np.ndarray, "patient bin"],
    bin_edges_months: Float[np.ndarray, " bin"],
    tau_months: float,
) -> Float[np.ndarray, " patient"]:
    """Integrate each curve from 0 to `tau_months`: the expected event-free months.

    Exact for the piecewise exponential curve: a bin from survival a to b contributes
    width * (a - b) / log(a / b).

    Source: Royston & Parmar 2013, BMC Med Res Methodol 13:152, eq. 1.
    """
    inner = bin_edges_months[bin_edges_months < tau_months]
    knots = np.concatenate([[0.0], inner, [tau_months]])
    values = interpolate_survival(survival, bin_edges_months, knots)
    left, right = values[:, :-1], values[:, 1:]
    # Where the curve is flat the quotient is 0/0 and its limit is the level itself;
    # where it falls to 0 within a bin, log(a / b) is infinite and the limit is 0.
    flat = left - right <= 1e-9 * left
    vanishes = ~flat & (right <= 0)
    ratio = np.where(flat | vanishes, 2.0, left / np.where(right > 0, right, 1.0))
    logarithmic = np.where(vanishes, 0.0, (left - right) / np.log(ratio))
    return np.sum(np.where(flat, left, logarithmic) * np.diff(knots), axis=1)


def median_months(
    survival: Float[np.ndarray, "patient bin"],
    bin_edges_months: Float[np.ndarray, " bin"],
) -> Float[np.ndarray, " patient"]:
    """Find where each curve crosses 0.5; infinite where it does not."""
    edges = np.concatenate([[0.0], bin_edges_months])
    padded = _pad(survival)
    crossed = padded <= 0.5
    right = np.argmax(crossed, axis=1)
    rows = np.arange(len(padded))
    reached = crossed[rows, right]
    right = np.where(reached, right, 1)
    above, below = padded[rows, right - 1], padded[rows, right]
    # A curve that reaches 0 has an infinite hazard there: it crosses at the left edge.
    vanishes = reached & (below <= 0)
    below = np.where(reached & ~vanishes, below, 0.25)
    above = np.where(reached, above, 1.0)
    fraction = np.where(vanishes, 0.0, np.log(above / 0.5) / np.log(above / below))
    months = edges[right - 1] + fraction * (edges[right] - edges[right - 1])
    return np.where(reached, months, np.inf)


def _pad(
    survival: Float[np.ndarray, "patient bin"],
) -> Float[np.ndarray, "patient knot"]:
    """Put S(0) = 1 in front and remove rounding above 1 and below 0."""
    clipped = np.clip(survival.astype(np.float64), 0.0, 1.0)
    return np.concatenate([np.ones((len(clipped), 1)), clipped], axis=1)
