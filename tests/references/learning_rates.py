"""The learning rate of every step of a run, written down slowly."""

import math


def slow_course(
    *,
    num_rounds: int,
    steps_of_round: int,
    highest: float,
    warm_up_share: float,
    final_share: float,
) -> list[float]:
    """Return the rate in the middle of each step of a run, in order.

    Equation 5 of Loshchilov & Hutter 2017, arXiv 1608.03983, with eta_min, eta_max,
    T_cur and T_i counted in steps of the whole run, after the steps of a warm-up.
    """
    num_steps = num_rounds * steps_of_round
    warm_up_steps = warm_up_share * num_steps
    eta_max, eta_min = highest, final_share * highest
    rates = []
    for index in range(num_steps):
        done = index + 0.5
        if done < warm_up_steps:
            rates.append(eta_max / warm_up_steps * done)
            continue
        t_cur, t_i = done - warm_up_steps, num_steps - warm_up_steps
        rates.append(
            eta_min + 0.5 * (eta_max - eta_min) * (1 + math.cos(t_cur / t_i * math.pi))
        )
    return rates
