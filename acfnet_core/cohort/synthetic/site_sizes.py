"""How the patients of a made-up cohort are shared out over its sites."""

SIZE_SHARES = (4, 3, 2)
"""Relative numbers of patients of the sites, cycling."""


def share_out(num_sites: int, num_patients: int) -> list[int]:
    """Split patients over sites by `SIZE_SHARES`; each gets one, none is lost.

    Example:
        >>> share_out(3, 40)
        [18, 13, 9]
    """
    shares = [SIZE_SHARES[number % len(SIZE_SHARES)] for number in range(num_sites)]
    spare = num_patients - num_sites
    sizes = [1 + spare * share // sum(shares) for share in shares]
    for number in range(num_patients - sum(sizes)):
        sizes[number % num_sites] += 1
    return sizes
