import os
from pathlib import Path

import pytest

from acfnet_core.cohort.quick_look.folder_tree import FolderTree


def _walk(root: Path) -> tuple[FolderTree, list[str]]:
    tree = FolderTree(root=root)
    return tree, [path.name for path in tree.files()]


def test_files_come_in_a_fixed_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z", "b/y", "a"):
        (tmp_path / name).touch()
    assert _walk(tmp_path)[1] == ["a", "z", "y"]


def test_a_link_to_a_file_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert _walk(tmp_path)[1] == ["a", "b"]


def test_a_circle_of_links_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    tree, names = _walk(tmp_path)
    assert (names, len(tree.links_not_entered)) == ([], 3)


def test_a_link_to_nothing_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "gone")
    assert len(_walk(tmp_path)[0].links_not_entered) == 1


def test_a_pipe_is_counted_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    tree, names = _walk(tmp_path)
    assert (names, tree.num_special) == ([], 1)


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").touch()
    listed = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError
        return listed(path)

    # The system's own refusal does not hold for root, as whom tests may run.
    monkeypatch.setattr(Path, "iterdir", refuse)
    tree, names = _walk(tmp_path)
    assert names == ["open"]
    assert tree.closed_folders == [tmp_path / "closed"]
