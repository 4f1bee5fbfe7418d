"""One object for values that many records have in common.

The headers of a series differ in a few of their many values. Each comes from another
process with strings and tuples of its own; a site has a hundred thousand.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any


def share_values(record: Any, like: Any) -> None:
    """Let a record hold another one's values wherever they are equal.

    Nothing that can be asked of the record changes, so it may be a frozen one.

    Args:
        record: Of a class with more than one slot.
        like: Of the same class.
    """
    names, values_of = _slots[type(record)]
    both = zip(names, values_of(record), values_of(like), strict=True)
    for name, value, shared in both:
        if value is not shared and value == shared:
            object.__setattr__(record, name, shared)


class _Slots(dict[Any, tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]]):
    """Class -> the names of its slots, and what gets all their values."""

    def __missing__(self, kind: Any) -> Any:
        names = kind.__slots__
        self[kind] = found = (names, attrgetter(*names))
        return found


_slots = _Slots()
