"""The discrete-time likelihood and the auxiliary losses, one patient at a time."""

from math import exp, log, sqrt


def probability(logit: float) -> float:
    return 1 / (1 + exp(-logit))


def negative_log_likelihood(
    logits: list[float],
    time_months: float,
    event: int,
    *,
    bin_width_months: float,
    death_logits: list[float] | None = None,
) -> float:
    """Walk through the bins of one patient and multiply probabilities."""
    likelihood = 1.0
    for k, logit in enumerate(logits):
        left, right = k * bin_width_months, (k + 1) * bin_width_months
        hazard = probability(logit)
        death = 0.0 if death_logits is None else probability(death_logits[k])
        ends_here = time_months <= right and (time_months > left or k == 0)
        if event and ends_here:
            return -log(likelihood * (hazard if event == 1 else (1 - hazard) * death))
        if not event and time_months < right:
            break
        likelihood *= (1 - hazard) * (1 - death)
    return -log(likelihood)


def cosine(first: list[float], second: list[float]) -> float:
    """Return the cosine of two vectors."""
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return product / sqrt(sum(a * a for a in first) * sum(b * b for b in second))


def mean_squared_cross_covariance(tokens: list[list[float]]) -> float:
    """Return it for one patient's tokens `[year][feature]`."""
    num_years, width = len(tokens), len(tokens[0])
    means = [sum(row[f] for row in tokens) / num_years for f in range(width)]
    half = width // 2
    total = 0.0
    for s in range(half):
        for p in range(half, width):
            covariance = (
                sum((row[s] - means[s]) * (row[p] - means[p]) for row in tokens)
                / num_years
            )
            total += covariance**2
    return total / half**2
