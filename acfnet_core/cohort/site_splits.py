"""Dividing the patients of one cohort among pseudo-sites, for simulations.

Every patient goes to exactly one site, every site gets at least the minimum, and the
same seed gives the same division. How unlike the sites are is one number, the
concentration of a Dirichlet distribution: large is alike, small is skewed.

Axes: `patient`; `site`.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

SplitKind = Literal["iid", "label", "size"]
DEFAULT_CONCENTRATION = 1.0
NUM_TIME_GROUPS = 4
_NUM_OUTCOMES = 2


def split_among_sites(
    time_months: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    kind: SplitKind,
    num_sites: int,
    minimum: int,
    seed: int,
    concentration: float = DEFAULT_CONCENTRATION,
) -> Int[np.ndarray, " patient"]:
    """Number the site of every patient, from 0.

    Args:
        time_months: Time to event or censoring.
        event: Whether the event was seen.
        kind: `iid`: sites of equal size, patients at random. `label`: sites of equal
            size that differ in when their patients have events. `size`: patients at
            random, sites of different size.
        num_sites: At least 1.
        minimum: The fewest patients of a site, at least 1.
        seed: Decides who goes where.
        concentration: Of `label` and `size`; above 0.

    Raises:
        ValueError: An argument is out of its range, or there are fewer than
            `num_sites * minimum` patients.
    """
    num_patients = time_months.size
    if num_sites < 1 or minimum < 1:
        raise ValueError(
            f"num_sites is {num_sites} and minimum {minimum}; expected at least 1"
        )
    if not 0.0 < concentration < np.inf:
        raise ValueError(f"concentration is {concentration}; expected above 0")
    if num_patients < num_sites * minimum:
        raise ValueError(
            f"{num_patients} patients are too few for {num_sites} sites of {minimum}"
        )
    rng = np.random.default_rng(seed)
    if kind == "size":
        sizes = _draw_sizes(num_patients, num_sites, minimum, concentration, rng)
    else:
        sizes = np.bincount(np.arange(num_patients) % num_sites, minlength=num_sites)
    if kind == "label":
        return _deal_by_label(_label(time_months, event), sizes, concentration, rng)
    return rng.permutation(np.repeat(np.arange(num_sites), sizes))


def _label(
    time_months: Float[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]
) -> Int[np.ndarray, " patient"]:
    """Return each patient's stratum: quarter of the times, with or without event."""
    shares = np.linspace(0.0, 1.0, NUM_TIME_GROUPS + 1)[1:-1]
    quarter = np.searchsorted(np.quantile(time_months, shares), time_months)
    return quarter * _NUM_OUTCOMES + event


def _draw_sizes(
    num_patients: int,
    num_sites: int,
    minimum: int,
    concentration: float,
    rng: np.random.Generator,
) -> Int[np.ndarray, " site"]:
    """Give every site the minimum, and shares of the rest drawn from a Dirichlet."""
    rest = num_patients - num_sites * minimum
    wanted = _dirichlet(np.full(num_sites, concentration), rng) * rest
    sizes = np.floor(wanted).astype(np.int64)
    # What rounding left over goes where it left most.
    largest = np.argsort(sizes - wanted, kind="stable")[: rest - sizes.sum()]
    sizes[largest] += 1
    return sizes + minimum


def _deal_by_label(
    label: Int[np.ndarray, " patient"],
    sizes: Int[np.ndarray, " site"],
    concentration: float,
    rng: np.random.Generator,
) -> Int[np.ndarray, " patient"]:
    """Fill sites of given sizes with strata in the proportions each site drew.

    A site draws its proportions q from Dirichlet(concentration * p), p being the
    cohort's. A stratum that is used up is left out of what is still to be drawn.

    Source: Hsu, Qi and Brown 2019, arXiv:1909.06335, section 3. There, examples are
    drawn; here each patient goes to one site, and sites take turns, so that none is
    left with what the others did not want.
    """
    num_labels = NUM_TIME_GROUPS * _NUM_OUTCOMES
    waiting = [
        rng.permutation(np.flatnonzero(label == one)) for one in range(num_labels)
    ]
    left = np.array([members.size for members in waiting])
    prior = left / label.size
    is_used = left > 0
    wishes = np.zeros((sizes.size, num_labels))
    for wish in wishes:
        wish[is_used] = _dirichlet(concentration * prior[is_used], rng)
    site_of = np.empty(label.size, np.int64)
    for site in rng.permutation(np.repeat(np.arange(sizes.size), sizes)):
        odds = np.where(left > 0, wishes[site], 0.0)
        # None of the wished for is left: whoever is left, in the cohort's proportions.
        odds = odds if odds.sum() > 0.0 else left.astype(np.float64)
        drawn = rng.choice(num_labels, p=odds / odds.sum())
        left[drawn] -= 1
        site_of[waiting[drawn][left[drawn]]] = site
    return site_of


def _dirichlet(
    concentrations: Float[np.ndarray, " part"], rng: np.random.Generator
) -> Float[np.ndarray, " part"]:
    """Draw shares; a concentration so small that all would vanish gives one all."""
    shares = rng.gamma(concentrations)
    total = shares.sum()
    if total > 0.0:
        return shares / total
    only = np.zeros_like(shares)
    only[rng.integers(shares.size)] = 1.0
    return only
