"""Which figures about people may be told: rules for parts, chains, means and quantiles.

All are pure functions of counts and numbers. A figure that a rule holds back is None.
That it is held back says that few people stand behind it, and no more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from acfnet_core.withholding import withhold

SIGNIFICANT_DIGITS = 3
MAX_SHARE_OF_ONE = 0.5
"""Of the squared deviations from the mean: above it, mean and standard deviation would
be a statement about one patient."""


def tell_parts(counts: Mapping[str, int], *, minimum: int) -> dict[str, int | None]:
    """Return the counts of parts that make up a known whole, the small ones held back.

    What is held back together must be of `minimum` people or more, or the whole less
    the other parts would tell it. So the smallest other parts are held back too.

    >>> tell_parts({"yes": 40, "no": 12, "missing": 3}, minimum=10)
    {'yes': 40, 'no': None, 'missing': None}
    """
    hidden = {
        part
        for part, count in counts.items()
        if withhold(count, minimum=minimum) is None
    }
    others = sorted((n, part) for part, n in counts.items() if n and part not in hidden)
    num_hidden = sum(counts[part] for part in hidden)
    for count, part in others:
        if not 0 < num_hidden < minimum:
            break
        hidden.add(part)
        num_hidden += count
    return {part: None if part in hidden else n for part, n in counts.items()}


def tell_nested(
    whole: int, counts: Sequence[int], *, minimum: int
) -> tuple[int | None, ...]:
    """Return counts of groups, each within the one before it, as far as they are safe.

    A count is told if it and its distance to every count told before are of nobody or
    of `minimum` people or more.

    >>> tell_nested(60, [52, 40, 34], minimum=10)
    (None, 40, None)
    """
    told = [whole]
    result: list[int | None] = []
    for count in counts:
        gaps = (count, *(earlier - count for earlier in told))
        is_safe = all(withhold(gap, minimum=minimum) is not None for gap in gaps)
        result.append(count if is_safe else None)
        if is_safe:
            told.append(count)
    return tuple(result)


def tell_moments(
    values: Float64[np.ndarray, " patient"], *, minimum: int
) -> tuple[float, float] | None:
    """Return mean and sample standard deviation of one value a patient, or None.

    They are held back of fewer than `minimum` patients; where fewer than `minimum`
    differ from the commonest value, since the mean would count them; and where one
    patient makes more than `MAX_SHARE_OF_ONE` of the spread.
    """
    if values.size < max(minimum, 2):
        return None
    commonest = Counter(round_figure(value, digits=6) for value in values)
    if values.size - commonest.most_common(1)[0][1] < minimum:
        return None
    squares = np.square(values - values.mean())
    if squares.max() > MAX_SHARE_OF_ONE * squares.sum():
        return None
    deviation = float(values.std(ddof=1))
    return round_figure(float(values.mean())), round_figure(deviation)


def tell_quantile(
    values: Float64[np.ndarray, " patient"], share: float, *, minimum: int
) -> float | None:
    """Return a quantile of one value a patient, or None.

    It is told if at least `minimum` patients lie on either side of it: a median from
    twice as many on, quartiles from four times.
    """
    if values.size * min(share, 1 - share) < minimum:
        return None
    return float(np.quantile(values, share))


def round_figure(value: float, *, digits: int = SIGNIFICANT_DIGITS) -> float:
    """Round to significant digits.

    >>> round_figure(1234.5), round_figure(-0.0012345)
    (1230.0, -0.00123)
    """
    return float(f"{value:.{digits}g}")
