"""Writing files so that a power cut leaves the old one or the new one, never half.

The path is always the same: a temporary file in the same folder, fsync, rename,
fsync of the folder.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from acfnet_core.errors import MachineError

PRIVATE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content`, wholly or not at all.

    Args:
        path: The file to write; its folder must exist.
        content: All of the new bytes.
        mode: Permission bits of the new file; `PRIVATE_MODE` for keys and patients.

    Raises:
        MachineError: The folder cannot be written or the disk is full. The old file,
            if there was one, is untouched.
    """
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Give the block an empty file to write, and put it in the place of `path`.

    The block may write the file itself or rename another one over it. If it raises,
    `path` is untouched.

    Args:
        path: The file to replace; its folder must exist.
        mode: Permission bits of the new file; `PRIVATE_MODE` for keys and patients.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
    try:
        # Made here, so that the user's umask has its say in the mode.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(temporary, flags, mode)
        wanted = os.fstat(descriptor).st_mode
        os.fchmod(descriptor, PRIVATE_MODE)
        os.close(descriptor)
        yield temporary
        temporary.chmod(wanted)
        _sync(temporary, os.O_RDONLY)
        temporary.replace(path)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise describe_os_error(error, path) from error
    finally:
        # It is gone if all went well, and may never have been there.
        with contextlib.suppress(OSError):
            temporary.unlink()


def make_folder(path: Path, *, private: bool = False) -> Path:
    """Create a folder and its parents; say clearly when that cannot be done.

    Raises:
        MachineError: The folder cannot be created or is not writable.
    """
    mode = PRIVATE_FOLDER_MODE if private else 0o755
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        probe = path / f".{secrets.token_hex(6)}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise describe_os_error(error, path) from error
    return path


def refuse_strangers(folder: Path, *, own_names: frozenset[str]) -> None:
    """Refuse a folder that holds anything but what we put there ourselves.

    Raises:
        MachineError: `machine.folder_not_empty`.
    """
    if not folder.is_dir():
        return
    strangers = [entry for entry in folder.iterdir() if entry.name not in own_names]
    if strangers:
        raise MachineError(
            "machine.folder_not_empty",
            f"{folder}: holds {len(strangers)} other files or folders.",
            remedy="Choose a new or an empty folder, apart from any data.",
        )


@contextlib.contextmanager
def held_lock(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock file for the length of the block; the kernel lets go at a crash.

    Args:
        path: The lock file; it is made, and stays.
        what: What is running while the lock is held, for the message.

    Raises:
        MachineError: Another process holds it (`machine.already_running`).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise MachineError(
            "machine.already_running",
            f"{path.parent}: {what} is running already.",
            remedy="Use the one that runs, or end it (Ctrl-C in its terminal) first.",
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds a lock file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def describe_os_error(error: OSError, path: Path) -> MachineError:
    """Turn the operating system's error about `path` into ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            "machine.disk_full",
            f"{path}: the disk is full; nothing was lost, the file was not written.",
            remedy="Free space on this disk and repeat the command.",
        )
    return MachineError(
        "machine.folder_unwritable",
        f"{path}: cannot be used ({error.strerror}).",
        remedy="Choose a folder that this user may use, or correct its permissions.",
    )


def _sync(path: Path, flags: int) -> None:
    """Make what a file holds, or a rename inside a folder, durable."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
