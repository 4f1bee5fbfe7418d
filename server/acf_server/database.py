"""A small SQLite file of ours: made once, versioned, one transaction at a time."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.files import PRIVATE_MODE, describe_os_error

_BUSY_TIMEOUT_S = 30.0


class Database:
    """One SQLite file that only its owner can read.

    Args:
        path: The file, made by `create`.
        format_version: Of its tables, from 1; another one is refused.
    """

    def __init__(self, path: Path, *, format_version: int) -> None:
        self.path = path
        self.format_version = format_version

    def create(self, schema: Sequence[str]) -> None:
        """Make the file and its tables; one that exists is left as it is.

        Args:
            schema: One statement for each table.

        Raises:
            MachineError: The file cannot be written.
            ConfigError: The file exists in another format.
        """
        try:
            self.path.touch(mode=PRIVATE_MODE, exist_ok=True)
        except OSError as error:
            raise describe_os_error(error, self.path) from error
        with self._open() as connection:
            if _read_version(connection) == 0:
                for statement in schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {self.format_version}")
            self._check_version(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file and hold its write lock; commit, or roll back on an error.

        Raises:
            ConfigError: There is no such file, or it has another format.
            MachineError: The file cannot be used.
        """
        if not self.path.exists():
            raise ConfigError(
                "config.not_initialised",
                f"{self.path}: there is no such file.",
                remedy="Set the folder up with `acf-server init`.",
            )
        with self._open() as connection:
            self._check_version(connection)
            yield connection

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(
                    self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None
                )
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                # What is deleted is overwritten: it may have been a secret.
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    yield connection
        except sqlite3.DatabaseError as error:
            raise MachineError(
                "machine.folder_unwritable",
                f"{self.path}: cannot be used ({error}).",
                remedy="Correct its permissions, free space, or restore a backup.",
            ) from error

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = _read_version(connection)
        if version != self.format_version:
            raise ConfigError(
                "config.invalid",
                f"{self.path}: has format {version}; expected {self.format_version}.",
                remedy="Use the acf-server that made it, or restore a backup.",
            )


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
