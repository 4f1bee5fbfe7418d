"""The files of a folder of images: no way out of it, no circle, nothing that waits."""

import stat
from collections.abc import Iterator
from pathlib import Path

from acfnet_core.cohort.folder_walk import walk


def files_below(root: Path, *, closed: list[Path]) -> Iterator[Path]:
    """Return regular files, in a fixed order; a linked folder is not entered.

    A link to a file counts if that lies below the root. A DICOMDIR is left out: what it
    says of other files is not believed.

    Args:
        root: Where to begin, without links in its path.
        closed: Takes the folders that this account cannot look into.
    """
    return walk(root, lambda folder: _entries_of(folder, root), closed=closed)


def _entries_of(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's own folders, and of its files, in order."""
    folders, files = [], []
    for entry in folder.iterdir():
        try:
            mode = entry.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(mode):
            folders.append(entry.name)
        elif _is_file_below(entry, mode, root):
            files.append(entry.name)
    return sorted(folders), sorted(files)


def _is_file_below(entry: Path, mode: int, root: Path) -> bool:
    # A pipe or a device is no file, nor is a link to itself.
    if entry.name == "DICOMDIR":
        return False
    if not stat.S_ISLNK(mode):
        return stat.S_ISREG(mode)
    return entry.is_file() and entry.resolve().is_relative_to(root)
