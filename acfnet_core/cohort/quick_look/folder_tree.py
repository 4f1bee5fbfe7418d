"""The files under a folder that nobody has tidied, and what cannot be entered there.

Links that lead out of the folder are counted and never followed; a linked folder is
not entered at all, so that no file is met twice and no circle is walked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.cohort.folder_walk import walk


@dataclass(kw_only=True)
class FolderTree:
    """A walk over a folder; its lists are whole when `files` has come to its end.

    Attributes:
        root: Where the walk begins; every file lies below it.
        closed_folders: Folders that this account cannot list.
        links_outward: Links to a place that is not below `root`.
        links_not_entered: Links to a folder below `root`, or to nothing.
        num_special: Sockets, pipes and devices.
    """

    root: Path
    closed_folders: list[Path] = field(default_factory=list)
    links_outward: list[Path] = field(default_factory=list)
    links_not_entered: list[Path] = field(default_factory=list)
    num_special: int = 0

    def files(self) -> Iterator[Path]:
        """Yield regular files and links to such below the root, in a fixed order."""
        root = self.root.resolve()
        for path in walk(root, _entries_of, closed=self.closed_folders):
            if self._is_file(path, root):
                yield path

    def _is_file(self, path: Path, root: Path) -> bool:
        is_link = path.is_symlink()
        if is_link and not _leads_inside(path, root):
            self.links_outward.append(path)
            return False
        if path.is_file():
            return True
        if is_link:
            self.links_not_entered.append(path)
        else:
            self.num_special += 1
        return False


def _entries_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's own folders, and of all else, in order."""
    folders: list[str] = []
    others: list[str] = []
    for path in folder.iterdir():
        is_own_folder = path.is_dir() and not path.is_symlink()
        (folders if is_own_folder else others).append(path.name)
    return sorted(folders), sorted(others)


def _leads_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        # A circle of links leads nowhere (RuntimeError in Python 3.11).
        return True
