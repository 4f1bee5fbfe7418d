"""Sequences whose items are made, or read from the disk, when they are asked for.

They stand where a tuple would hold something for every patient in memory.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

Item = TypeVar("Item")


class LazySequence(Sequence[Item]):
    """A sequence by its length and its item at a place; equal to any of equal items."""

    @abstractmethod
    def item_at(self, index: int) -> Item:
        """Return the item at a place, from 0 to below the length."""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        """Return the item at a place, or those of a part."""
        if isinstance(index, slice):
            return tuple(map(self.item_at, range(*index.indices(len(self)))))
        try:
            return self.item_at(range(len(self))[index])
        except IndexError:
            raise IndexError("there is no such item") from None

    def __iter__(self) -> Iterator[Item]:
        """Yield the items that are there now."""
        return map(self.item_at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Tell whether the other is a sequence of equal items."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    # What is compared by its items has no hash, as a list has none.
    __hash__ = None  # type: ignore[assignment]


class MappedSequence(LazySequence[Item]):
    """What a function makes of each item of another sequence, at every asking."""

    def __init__(self, function: Callable[[Any], Item], items: Sequence[Any]) -> None:
        self._function = function
        self._items = items

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def item_at(self, index: int) -> Item:
        """Return what the function makes of the item at a place."""
        return self._function(self._items[index])
