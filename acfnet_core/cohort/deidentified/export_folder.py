"""The folder of an export: written beside its place, and put there when it is whole."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from acfnet_core.cohort.deidentified.export_manifest import ExportedFile
from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.files import (
    PRIVATE_FOLDER_MODE,
    PRIVATE_MODE,
    describe_os_error,
    make_folder,
    refuse_strangers,
)


class ExportFolder:
    """A folder that is being filled; nobody but its owner may enter it.

    Attributes:
        files: What was written, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[ExportedFile] = []

    def write(self, name: str, content: bytes, *, is_listed: bool = True) -> None:
        """Write a file that is not there yet.

        Raises:
            MachineError: The disk is full or the folder cannot be written.
        """
        path = self.root / name
        try:
            self._make_parents(path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, PRIVATE_MODE), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise describe_os_error(error, path) from error
        if is_listed:
            self.files.append(
                ExportedFile(
                    file=name,
                    size_bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )

    def drop(self, folder: str) -> None:
        """Take a folder out again, with all that was written into it."""
        shutil.rmtree(self.root / folder, ignore_errors=True)
        self.files = [one for one in self.files if not _is_in(one.file, folder)]

    def _make_parents(self, folder: Path) -> None:
        if folder != self.root and not folder.is_dir():
            self._make_parents(folder.parent)
            folder.mkdir(mode=PRIVATE_FOLDER_MODE)


def refuse_place(folder: Path, apart_from: Sequence[Path]) -> None:
    """Refuse a place where an export must not be written.

    Args:
        folder: Where the export is to go.
        apart_from: Folders in which it must not lie.

    Raises:
        ConfigError: It lies in one of them.
        MachineError: It is a file, or a folder that is not empty.
    """
    place = folder.resolve()
    for other in apart_from:
        if place.is_relative_to(other.resolve()):
            raise ConfigError(
                "config.invalid",
                f"{folder}: lies in {other}, which holds what must not be handed out.",
                remedy="Choose a folder apart from the site's folder and its data.",
            )
    if folder.exists() and not folder.is_dir():
        raise MachineError(
            "machine.folder_unwritable",
            f"{folder}: is a file; a new or an empty folder is expected.",
            remedy="Choose another folder.",
        )
    refuse_strangers(folder, own_names=frozenset())


@contextlib.contextmanager
def filled_beside(folder: Path) -> Iterator[ExportFolder]:
    """Give a folder to fill, and put it in its place when the block ends well.

    Raises:
        MachineError: The folder cannot be made or put in its place.
    """
    make_folder(folder.absolute().parent)
    beside = folder.absolute().parent / f".{folder.name}.{secrets.token_hex(6)}.tmp"
    try:
        beside.mkdir(mode=PRIVATE_FOLDER_MODE)
    except OSError as error:
        raise describe_os_error(error, beside) from error
    try:
        yield ExportFolder(beside)
        try:
            # An empty folder of this name is replaced, one that has been filled not.
            beside.rename(folder.absolute())
        except OSError as error:
            raise describe_os_error(error, folder) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_in(file: str, folder: str) -> bool:
    return file.startswith(f"{folder}/")
