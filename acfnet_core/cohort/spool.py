"""Notes on a folder's files, on the disk: memory does not grow with the patients.

A spool is an SQLite database without a name: its file is removed as soon as it is open,
so that nothing is left of it however the process ends, and nobody else can open it.
Small ones stay in the memory of the database, which is bounded. Nothing is ever written
back to be kept, so there is no journal and no lock.
"""

import errno
import os
import sqlite3
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from acfnet_core.cohort.guarded.frames import pack_body, unpack_body
from acfnet_core.cohort.lazy_sequence import LazySequence
from acfnet_core.errors import MachineError
from acfnet_core.files import describe_os_error

Item = TypeVar("Item")

_CACHE_KIB = 2048
_SETTINGS = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    f"PRAGMA cache_size = -{_CACHE_KIB}",
    # Whatever were sorted would lie in a file of its own, in another folder.
    "PRAGMA temp_store = MEMORY",
    "BEGIN",
)


class Spool:
    """Holds lists on the disk for as long as anything refers to them.

    Args:
        folder: Where its file lies, in which nobody sees it; a site's own folder where
            there is one. None takes the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._cursor: sqlite3.Cursor | None = None
        self._num_lists = 0

    def new_list(self) -> "SpooledList[Any]":
        """Return an empty list."""
        self._num_lists += 1
        return SpooledList(self, self._num_lists)

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Execute a statement of SQL and return what it finds.

        Raises:
            MachineError: The folder cannot be written, or the disk is full.
        """
        try:
            if self._cursor is None:
                self._cursor = self._open().cursor()
            return self._cursor.execute(statement, values).fetchall()
        except OSError as error:
            raise describe_os_error(error, self._folder) from error
        except sqlite3.OperationalError as error:
            raise self._describe(error) from error

    def _open(self) -> sqlite3.Connection:
        descriptor, name = tempfile.mkstemp(prefix=".notes-", dir=self._folder)
        try:
            # Nobody else can have it, and a network drive may know no locks.
            database = sqlite3.connect(
                f"{Path(name).as_uri()}?vfs=unix-none", uri=True, isolation_level=None
            )
            weakref.finalize(self, database.close)
            for setting in _SETTINGS:
                database.execute(setting).close()
        finally:
            os.close(descriptor)
            Path(name).unlink()
        return database

    def _describe(self, error: sqlite3.OperationalError) -> MachineError:
        is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        number = errno.ENOSPC if is_full else errno.EIO
        return describe_os_error(OSError(number, os.strerror(number)), self._folder)


class SpooledList(LazySequence[Item]):
    """A list on the disk, whose items can be found by keys.

    Items are what `guarded.frames` passes: plain values and classes of this package.
    What is read is a new object at every asking.
    """

    def __init__(self, spool: Spool, number: int) -> None:
        self._spool = spool
        self._items, self._keys = f"items_{number}", f"keys_{number}"
        self._length = 0

    def __len__(self) -> int:
        """Return how many items there are."""
        return self._length

    def append(self, item: Item, keys: Iterable[str] = ()) -> None:
        """Add an item.

        Args:
            item: Not read again by reference: it is on the disk as it is now.
            keys: Under which `find` gives it.

        Raises:
            MachineError: It cannot be written.
        """
        if not self._length:
            self._make_tables()
        number = self._length
        self._spool.execute(
            f"INSERT INTO {self._items} VALUES (?, ?)",  # noqa: S608 - our own name
            (number, pack_body(item)),
        )
        for key in dict.fromkeys(keys):
            self._spool.execute(
                f"INSERT INTO {self._keys} VALUES (?, ?)",  # noqa: S608 - our own name
                (_encode(key), number),
            )
        self._length += 1

    def item_at(self, index: int) -> Item:
        """Read the item at a place."""
        ((body,),) = self._select("SELECT body FROM {items} WHERE number = ?", index)
        item: Item = unpack_body(body)
        return item

    def find(self, key: str) -> Iterator[Item]:
        """Yield the items that have a key, in the order in which they were added."""
        return map(self.item_at, self.places(key))

    def places(self, key: str) -> list[int]:
        """Return where the items lie that have a key, ascending."""
        found = self._select(
            "SELECT number FROM {keys} WHERE key = ? ORDER BY number", _encode(key)
        )
        return [number for (number,) in found]

    def has(self, key: str) -> bool:
        """Tell whether any item has a key."""
        statement = "SELECT 1 FROM {keys} WHERE key = ? LIMIT 1"
        return bool(self._select(statement, _encode(key)))

    def keys(self) -> Iterator[str]:
        """Yield every key once, ascending; nothing may be added meanwhile."""
        key: bytes | None = b""
        statement = "SELECT min(key) FROM {keys} WHERE key "
        found = self._select(f"{statement} >= ?", key)
        while found and (key := found[0][0]) is not None:
            yield key.decode("utf-8", "surrogatepass")
            found = self._select(f"{statement} > ?", key)

    def num_keys(self) -> int:
        """Return how many different keys there are."""
        return sum(1 for _ in self.keys())

    def _select(self, statement: str, value: object) -> list[Any]:
        if not self._length:
            return []
        named = statement.format(items=self._items, keys=self._keys)
        return self._spool.execute(named, (value,))

    def _make_tables(self) -> None:
        for statement in (
            f"CREATE TABLE {self._items} (number INTEGER PRIMARY KEY, body BLOB)",
            f"CREATE TABLE {self._keys} "
            "(key BLOB, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID",
        ):
            self._spool.execute(statement)


def _encode(key: str) -> bytes:
    # Bytes stand in the order of the texts. A path may hold what is no text.
    return key.encode("utf-8", "surrogatepass")
