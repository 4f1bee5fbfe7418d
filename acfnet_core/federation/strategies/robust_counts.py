"""How many sites the robust strategies need, and how many they leave out."""

from math import ceil, floor

FEWEST_FOR_MEDIAN = 3
"""The median of two sites is their mean: either can move it as far as it likes."""

_ROUNDING = 1e-9
"""A share such as 0.29 of 100 sites is 28.999... as a float."""


def num_trimmed_sites(trimmed_share: float, num_sites: int) -> int:
    """Return how many sites a trimmed mean leaves out at either end.

    >>> num_trimmed_sites(0.29, 100), num_trimmed_sites(0.2, 4)
    (29, 0)
    """
    return floor(trimmed_share * num_sites + _ROUNDING)


def fewest_sites_to_trim(trimmed_share: float) -> int:
    """Return how many sites there must be for the share to be one of them.

    >>> fewest_sites_to_trim(0.2), fewest_sites_to_trim(0.3)
    (5, 4)
    """
    return ceil(1 / trimmed_share - _ROUNDING)


def fewest_sites_for_krum(*, num_malicious: int, num_kept: int) -> int:
    """Return how many updates Multi-Krum needs.

    More than 2 f + 2 for its guarantee, and f more than are kept, since any f of them
    may be malicious.

    Source: Blanchard et al. 2017, arXiv 1703.02757, proposition 1, for the first.

    >>> fewest_sites_for_krum(num_malicious=1, num_kept=2)
    5
    """
    return max(2 * num_malicious + 3, num_kept + num_malicious)
