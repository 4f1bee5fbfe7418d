"""Flower's object store with large contents in files beside its database.

SQLite has one writer. With every piece of a model in a row, all sites wait for each
other's pieces to be written, first to the journal and then to the database, and every
connection keeps some of them in its cache. Here a row holds the name of a file, and
SQLite what it is good at: which pieces there are, and who refers to them.

A file is written before its row says that it is there, under a name of its own, and
removed after the row is gone, so that a kill in between leaves at most a file too many.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.state.schema.objectstore_models import StoredObject
from sqlalchemy import event, func, make_url, select, update

from acfnet_core.files import PRIVATE_MODE, make_folder

LARGE_BYTES = 1 << 16
"""Contents from this size on are files."""
MARK = b"\0file\0"
"""What a row begins with whose content is a file; no object begins with a zero."""
_NAME_BYTES = 16


class FileObjectStore(SqlObjectStore):
    """An object store that a SuperLink can use in place of its own.

    Args:
        database_path: Of the SQLite database; the files are in the folder
            `objects` beside it.
    """

    def __init__(self, database_path: str) -> None:
        # What it checks is checked here, before a name takes the content's place.
        super().__init__(database_path, verify=False)
        database = make_url(self.database_url).database
        self._folder = Path(database or "").with_name("objects")

    def initialize(self, log_queries: bool = False, **engine_kwargs: Any) -> list[str]:
        """Open the store, and mend what a power cut may have left."""
        tables: list[str] = super().initialize(log_queries, **engine_kwargs)
        make_folder(self._folder, private=True)
        self._mend()
        return tables

    def put(self, object_id: str, object_content: bytes) -> None:
        """Store an object that was announced.

        Raises:
            ValueError: The content is not that object's, or is none.
            OSError: The disk is full.
        """
        if get_object_id(object_content) != object_id:
            raise ValueError(f"Object ID {object_id} does not match content hash")
        validate_object_content(content=object_content)
        if object_content.startswith(MARK):
            raise ValueError(f"Object {object_id} begins with a zero")
        if len(object_content) < LARGE_BYTES:
            super().put(object_id, object_content)
            return
        path = self._folder / secrets.token_hex(_NAME_BYTES)
        row = MARK + path.name.encode()
        is_kept = False
        try:
            _write(path, object_content)
            super().put(object_id, row)
            is_kept = super().get(object_id) == row
        finally:
            if not is_kept:
                _remove(path)

    def get(self, object_id: str) -> bytes | None:
        """Return an object's content, empty if it is still to come, None if unknown."""
        row: bytes | None = super().get(object_id)
        path = self._path(row)
        if path is None:
            return row
        # It can have been deleted since its row was read.
        with suppress(FileNotFoundError):
            return path.read_bytes()
        return None

    def delete(self, object_id: str) -> None:
        """Delete an object that nothing refers to, and what only it referred to."""
        with self._mutation_session() as session:
            row = session.scalar(
                select(StoredObject.content).where(
                    StoredObject.object_id == object_id, StoredObject.ref_count == 0
                )
            )
            super().delete(object_id)
            path = self._path(row)
            if path is not None:
                event.listen(session, "after_commit", _removing(path), once=True)

    def clear(self) -> None:
        """Delete every object."""
        super().clear()
        for path in self._folder.iterdir():
            _remove(path)

    def _path(self, row: bytes | None) -> Path | None:
        """Return the file that a row names; None if it holds its content itself."""
        if row is None or not row.startswith(MARK):
            return None
        return self._folder / row.removeprefix(MARK).decode()

    def _mend(self) -> None:
        """Forget objects whose file is not whole, and remove files of no object."""
        with self.session() as session:
            starts = func.substr(StoredObject.content, 1, len(MARK))
            rows = session.execute(
                select(StoredObject.object_id, StoredObject.content).where(
                    starts == MARK
                )
            )
            named = set()
            for object_id, row in rows.all():
                path = self._path(row)
                if path is not None and _is_whole(path, str(object_id)):
                    named.add(path)
                    continue
                session.execute(
                    update(StoredObject)
                    .where(StoredObject.object_id == object_id)
                    .values(content=b"", is_available=0)
                )
        for path in set(self._folder.iterdir()) - named:
            _remove(path)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _is_whole(path: Path, object_id: str) -> bool:
    with suppress(FileNotFoundError):
        return bool(get_object_id(path.read_bytes()) == object_id)
    return False


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _removing(path: Path) -> Callable[[object], None]:
    """Return what removes a file when a transaction has ended well."""

    def remove(_: object) -> None:
        _remove(path)

    return remove
