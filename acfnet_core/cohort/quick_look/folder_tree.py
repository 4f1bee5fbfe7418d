"""The files under a folder that nobody has tidied, and what cannot be entered there.

Links that lead out of the folder are counted and never followed; a linked folder is
not entered at all, so that no file is met twice and no circle is walked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


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
        pending = [root]
        while pending:
            folder = pending.pop()
            try:
                entries = sorted(folder.iterdir())
                folders = [path for path in entries if _is_own_folder(path)]
            except OSError:
                self.closed_folders.append(folder)
                continue
            pending.extend(reversed(folders))
            for path in sorted(set(entries) - set(folders)):
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


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _leads_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        # A circle of links leads nowhere (RuntimeError in Python 3.11).
        return True
