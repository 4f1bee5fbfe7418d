"""All entries below a folder, depth first, with little of it in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

ListFolder = Callable[[Path], tuple[list[str], list[str]]]
"""Folder -> the names of the folders to enter, and of what is to be given, in order."""


def walk(root: Path, list_folder: ListFolder, *, closed: list[Path]) -> Iterator[Path]:
    """Yield what is to be given of each folder, before that of the folders in it.

    Args:
        root: Where to begin.
        list_folder: Says what is in a folder; an `OSError` of it closes the folder.
        closed: Takes the folders that this account cannot look into.
    """
    # Names alone: a path of every patient's folder would take four times as much.
    pending = [iter([root.name])]
    above = [root.parent]
    while pending:
        name = next(pending[-1], None)
        if name is None:
            pending.pop()
            above.pop()
            continue
        folder = above[-1] / name
        try:
            folders, given = list_folder(folder)
        except OSError:
            closed.append(folder)
            continue
        pending.append(iter(folders))
        above.append(folder)
        yield from (folder / name for name in given)
