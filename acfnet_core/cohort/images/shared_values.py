"""One object for values that many records have in common.

The headers of a series differ in a few of their many values. Each comes from another
process with strings and tuples of its own; a site has a hundred thousand.
"""

from typing import Any


def share_values(record: Any, like: Any) -> None:
    """Let a record hold another one's values wherever they are equal.

    Nothing that can be asked of the record changes, so it may be a frozen one.

    Args:
        record: Of a class with slots.
        like: Of the same class.
    """
    for name in type(record).__slots__:
        value, shared = getattr(record, name), getattr(like, name)
        if value is not shared and value == shared:
            object.__setattr__(record, name, shared)
