"""Slow, obvious survival metrics: one loop per word of the definition."""

import numpy as np


def slow_kaplan_meier(time: np.ndarray, event: np.ndarray, at_months: float) -> float:
    survival = 1.0
    for step in sorted(set(time[event])):
        if step <= at_months:
            at_risk = sum(1 for t in time if t >= step)
            failed = sum(1 for t, e in zip(time, event, strict=True) if t == step and e)
            survival *= 1.0 - failed / at_risk
    return survival


def slow_censoring(time: np.ndarray, event: np.ndarray, at_months: float) -> float:
    uncensored = 1.0
    for step in sorted(set(time[~event])):
        if step <= at_months:
            pairs = list(zip(time, event, strict=True))
            at_risk = sum(1 for t, e in pairs if t > step or (t == step and not e))
            censored = sum(1 for t, e in pairs if t == step and not e)
            uncensored *= 1.0 - censored / at_risk
    return uncensored


def slow_concordance(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, weight: np.ndarray
) -> float | None:
    """Harrell's C with weight 1; Uno's with the squared inverse of G, 0 from tau on."""
    total = agreed = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            outlasts = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if i != j and event[i] and outlasts:
                total += weight[i]
                if abs(risk[i] - risk[j]) <= 1e-8:
                    agreed += 0.5 * weight[i]
                elif risk[i] > risk[j]:
                    agreed += weight[i]
    return agreed / total if total > 0 else None


def slow_brier(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    at_months: float,
    train: tuple[np.ndarray, np.ndarray],
) -> float:
    total = 0.0
    for t, e, s in zip(time, event, survival, strict=True):
        if t <= at_months and e:
            total += s**2 / slow_censoring(*train, t)
        elif t > at_months:
            total += (1.0 - s) ** 2 / slow_censoring(*train, at_months)
    return total / len(time)


def slow_restricted_mean(
    survival: np.ndarray, edges: np.ndarray, tau_months: float, num_steps: int = 200_000
) -> float:
    """Integrate one piecewise exponential curve by midpoints."""
    knots = np.concatenate([[0.0], edges])
    logs = np.concatenate([[0.0], np.log(survival)])
    width = tau_months / num_steps
    middle = (np.arange(num_steps) + 0.5) * width
    return float(np.sum(np.exp(np.interp(middle, knots, logs))) * width)


def slow_partial_likelihood(
    features: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    beta: np.ndarray,
    alpha: float,
) -> float:
    """Penalised log partial likelihood with Breslow's ties."""
    predictor = features @ beta
    total = 0.0
    for i in range(len(time)):
        if event[i]:
            at_risk = [
                np.exp(predictor[j]) for j in range(len(time)) if time[j] >= time[i]
            ]
            total += predictor[i] - np.log(sum(at_risk))
    return float(total - alpha / 2.0 * np.sum(beta**2))
