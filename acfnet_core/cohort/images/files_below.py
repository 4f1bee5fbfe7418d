"""The files of a folder of images: no way out of it, no circle, nothing that waits."""

from collections.abc import Iterator
from pathlib import Path


def files_below(root: Path, *, closed: list[Path]) -> Iterator[Path]:
    """Yield regular files, in a fixed order; a linked folder is not entered.

    A link to a file counts if that lies below the root. A DICOMDIR is left out: what it
    says of other files is not believed.

    Args:
        root: Where to begin, without links in its path.
        closed: Takes the folders that this account cannot look into.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(folder.iterdir())
            folders = [one for one in entries if one.is_dir() and not one.is_symlink()]
            files = [one for one in entries if _is_file_below(one, root)]
        except OSError:
            closed.append(folder)
            continue
        pending.extend(reversed(folders))
        yield from files


def _is_file_below(entry: Path, root: Path) -> bool:
    # A pipe or a device is no file, nor is a link to itself.
    if not entry.is_file() or entry.name == "DICOMDIR":
        return False
    return not entry.is_symlink() or entry.resolve().is_relative_to(root)
