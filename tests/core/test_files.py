import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acfnet_core.errors import MachineError
from acfnet_core.files import (
    PRIVATE_FOLDER_MODE,
    PRIVATE_MODE,
    describe_os_error,
    held_lock,
    make_folder,
    refuse_strangers,
    write_atomically,
)

_WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from acfnet_core.errors import MachineError
from acfnet_core.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically(Path(sys.argv[1]), b"new" * 10_000)
except MachineError as error:
    sys.exit(error.exit_status)
"""


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def _fail_fsync(number: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


def _written(path: Path) -> MachineError:
    with pytest.raises(MachineError, match=str(path)) as caught:
        write_atomically(path, b"new")
    return caught.value


def test_a_file_is_replaced(old_file: Path) -> None:
    write_atomically(old_file, b"new")
    assert old_file.read_bytes() == b"new"


def test_nothing_else_is_left_in_the_folder(old_file: Path) -> None:
    write_atomically(old_file, b"new")
    assert list(old_file.parent.iterdir()) == [old_file]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_alone_and_nothing_else(
    old_file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", _fail_fsync(number))
    assert _written(old_file).code == "machine.disk_full"
    assert old_file.read_bytes() == b"old"
    assert list(old_file.parent.iterdir()) == [old_file]


def test_a_write_that_breaks_off_leaves_the_old_file_alone_and_nothing_else(
    old_file: Path,
) -> None:
    # A process of its own, since the limit on the size of files cannot be lifted.
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TOO_MUCH, str(old_file)], check=False
    )
    assert done.returncode == 61
    assert old_file.read_bytes() == b"old"
    assert list(old_file.parent.iterdir()) == [old_file]


def test_the_bytes_are_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, named = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda _: named.append(path.exists()))
    write_atomically(path, b"new")
    assert named == [False, True]


@pytest.mark.parametrize("mode", [PRIVATE_MODE, 0o400])
def test_a_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    write_atomically(tmp_path / "file", b"new", mode=mode)
    assert _mode(tmp_path / "file") == mode


def test_a_file_that_others_could_read_becomes_private(old_file: Path) -> None:
    old_file.chmod(0o644)
    write_atomically(old_file, b"new", mode=PRIVATE_MODE)
    assert _mode(old_file) == PRIVATE_MODE


def test_a_private_file_is_never_readable_by_others_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: modes.append(os.fstat(descriptor).st_mode)
    )
    write_atomically(tmp_path / "key", b"secret", mode=PRIVATE_MODE)
    assert stat.S_IMODE(modes[0]) == PRIVATE_MODE


def test_a_path_below_a_file_is_reported(old_file: Path) -> None:
    assert _written(old_file / "below").code == "machine.folder_unwritable"


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    assert _written(tmp_path / "absent" / "file").code == "machine.folder_unwritable"


def test_a_folder_in_the_place_of_the_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    assert _written(tmp_path / "file").code == "machine.folder_unwritable"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_making_a_folder_again_keeps_what_is_in_it(old_file: Path) -> None:
    make_folder(old_file.parent)
    assert list(old_file.parent.iterdir()) == [old_file]


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    assert _mode(make_folder(tmp_path / "a", private=True)) == PRIVATE_FOLDER_MODE


@pytest.mark.parametrize("place", ["", "below", "below/further"])
def test_a_folder_that_cannot_be_made_is_reported(old_file: Path, place: str) -> None:
    with pytest.raises(MachineError, match=str(old_file)) as caught:
        make_folder(old_file / place)
    assert caught.value.code == "machine.folder_unwritable"


def test_a_folder_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        make_folder(tmp_path / "a")


def test_a_description_names_the_path_the_reason_and_a_remedy() -> None:
    error = describe_os_error(OSError(errno.EROFS, "Read-only file system"), Path("/a"))
    assert error.message == "/a: cannot be used (Read-only file system)."
    assert error.remedy.startswith("Choose a folder")


def test_a_lock_that_is_held_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "running.lock"
    with (
        held_lock(path, what="this site"),
        pytest.raises(MachineError, match="this site is running already") as caught,
        held_lock(path, what="this site"),
    ):
        pass
    assert caught.value.code == "machine.already_running"


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    path = tmp_path / "running.lock"
    with held_lock(path, what="this site"):
        pass
    with held_lock(path, what="this site"):
        assert stat.S_IMODE(path.stat().st_mode) == PRIVATE_MODE


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").touch()
    refuse_strangers(tmp_path, own_names=frozenset({"ours"}))
    (tmp_path / "theirs").touch()
    with pytest.raises(MachineError, match="holds 1 other") as caught:
        refuse_strangers(tmp_path, own_names=frozenset({"ours"}))
    assert caught.value.code == "machine.folder_not_empty"
