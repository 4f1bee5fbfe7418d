"""The headers of many series, put on the disk in runs while files are read.

Files of a series may lie anywhere. What of each has been read lately is written as one
run; a series is put together of its runs when it is asked for. Headers of a run share
what they have in common, on the disk too.
"""

from collections.abc import Sequence
from typing import Any

from acfnet_core.cohort.images.shared_values import share_values
from acfnet_core.cohort.lazy_sequence import LazySequence, MappedSequence
from acfnet_core.cohort.spool import Spool, SpooledList

_RUN = 500
"""Headers in memory before they are written, or those of one file."""


class HeaderRuns:
    """Takes headers with the key of their series, and gives whole series.

    Args:
        spool: Where they are put.
    """

    def __init__(self, spool: Spool) -> None:
        self._runs: SpooledList[tuple[Any, ...]] = spool.new_list()
        self._met: SpooledList[str] = spool.new_list()
        self._sorted: SpooledList[str] = spool.new_list()
        self._waiting: dict[str, list[Any]] = {}
        self._num_waiting = 0
        self._previous: Any = None

    def add(self, key: str, headers: Sequence[Any]) -> None:
        """Take some headers of a series."""
        for one in headers:
            # Files follow one another as their series do.
            share_values(one, self._previous or one)
            self._previous = one
        self._waiting.setdefault(key, []).extend(headers)
        self._num_waiting += len(headers)
        if self._num_waiting >= _RUN:
            self._write()

    def as_met(self) -> Sequence[tuple[Any, ...]]:
        """Return the series in the order in which they were met first."""
        self._write()
        return _SeriesOfRuns(self._met, self._runs)

    def first_of_each(self) -> Sequence[Any]:
        """Return of each series, as it was met, the header that was met first."""
        self._write()
        return MappedSequence(self._first_of, self._met)

    def by_key(self) -> Sequence[tuple[Any, ...]]:
        """Return the series in the order of their keys; none can be added any more."""
        self._write()
        for key in self._runs.keys():  # noqa: SIM118 - no mapping
            self._sorted.append(key)
        return _SeriesOfRuns(self._sorted, self._runs)

    def _first_of(self, key: str) -> Any:
        return next(self._runs.find(key))[0]

    def _write(self) -> None:
        for key, headers in self._waiting.items():
            if not self._runs.has(key):
                self._met.append(key)
            self._runs.append(tuple(headers), keys=[key])
        self._waiting, self._num_waiting = {}, 0


class _SeriesOfRuns(LazySequence[tuple[Any, ...]]):
    def __init__(
        self, keys: SpooledList[str], runs: SpooledList[tuple[Any, ...]]
    ) -> None:
        self._keys, self._runs = keys, runs

    def __len__(self) -> int:
        return len(self._keys)

    def item_at(self, index: int) -> tuple[Any, ...]:
        runs = self._runs.find(self._keys[index])
        return tuple(header for run in runs for header in run)
