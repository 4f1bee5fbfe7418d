"""Which counts of people may be told: never one that points at few of them.

The rule stands here alone. Sites apply it before a count leaves, the coordinator once
more before a count is printed.
"""


def withhold(count: int, *, minimum: int) -> int | None:
    """Return a count of people, or None if there are some but fewer than `minimum`.

    >>> withhold(9, minimum=10) is None, withhold(0, minimum=10)
    (True, 0)
    """
    return None if 0 < count < minimum else count


def withhold_part(count: int, *, of: int, minimum: int) -> int | None:
    """Return the count of a part, or None if the part or the rest is of few people.

    Whoever knows the whole knows the rest: 31 events among 40 patients tell of 9
    without one.

    >>> withhold_part(31, of=40, minimum=10) is None
    True
    >>> withhold_part(30, of=40, minimum=10)
    30
    """
    groups = (count, of - count)
    is_told = all(withhold(group, minimum=minimum) is not None for group in groups)
    return count if is_told else None
