"""Child processes: started with a log file, watched, and ended with all they started.

Each child leads a process group of its own, so ending it ends its own children too.
Should the parent be killed, the kernel tells the child to end (Linux only).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from acfnet_core.errors import MachineError
from acfnet_core.files import PRIVATE_MODE, make_folder

POLL_S = 0.1
WATCH_S = 1.0
GRACE_S = 8.0
"""How long a process may take to end before it is killed."""
OUTER_GRACE_S = 20.0
"""The same for one that has to end children of its own first."""
READY = "Ready."
"""Begins the line that a `start` command writes when everything it started is up."""


# Loaded here, since a child between fork and exec should not load anything.
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Child:
    """A running process with a name for people and its log file."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    log_start: int = 0
    """Where in the log this process begins; before it stand earlier ones."""

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def fresh_log(self) -> bytes:
        """Return what this process has logged so far."""
        with self.log_file.open("rb") as file:
            file.seek(self.log_start)
            return file.read()


def start_child(
    name: str,
    command: Sequence[str],
    *,
    log_file: Path,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a command in a process group of its own; its output goes to `log_file`.

    Args:
        name: What to call it towards people.
        command: Program and arguments; nothing secret, since others can list them.
        log_file: Appended to; readable by this user only.
        environment: Variables on top of this process's own.
    """
    make_folder(log_file.parent)
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_MODE)
    try:
        log_start = os.fstat(descriptor).st_size
        process = subprocess.Popen(  # noqa: S603 - the commands are our own
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    finally:
        os.close(descriptor)
    return Child(name, process, log_file, log_start)


def wait_until(
    is_ready: Callable[[], bool], *, children: Sequence[Child], timeout_s: float
) -> None:
    """Wait until something is ready, as long as all the children it needs live.

    Raises:
        MachineError: A child ended (`machine.process_died`), or the time is over
            (`machine.start_timeout`).
    """
    deadline = monotonic() + timeout_s
    while not is_ready():
        check_alive(children)
        if monotonic() > deadline:
            names = ", ".join(child.name for child in children)
            raise MachineError(
                "machine.start_timeout",
                f"Not ready after {timeout_s:.0f} s: {names}.",
                remedy=f"Look at the logs in {children[0].log_file.parent}.",
            )
        sleep(POLL_S)


def is_ready(child: Child) -> bool:
    """Tell whether a `start` command has written that it is ready."""
    return READY.encode() in child.fresh_log()


def watch(children: Sequence[Child]) -> None:
    """Return never: wait until one of the children ends, or this process is told to.

    Raises:
        MachineError: `machine.process_died`.
    """
    while True:
        check_alive(children)
        sleep(WATCH_S)


def check_alive(children: Sequence[Child]) -> None:
    """Raise if one of the children has ended.

    Raises:
        MachineError: `machine.process_died`, with its exit status and its log.
    """
    for child in children:
        if child.has_ended:
            raise MachineError(
                "machine.process_died",
                f"{child.name} ended with status {child.process.returncode}.",
                remedy=f"Look at the end of its log: {child.log_file}",
            )


def stop_children(children: Sequence[Child], *, grace_s: float = GRACE_S) -> None:
    """End the children and all they started: asked first, killed after `grace_s`.

    A second Ctrl-C does not break it off: what it leaves behind would hold ports and
    keys.
    """
    with _undisturbed():
        _stop(children, grace_s)


def _stop(children: Sequence[Child], grace_s: float) -> None:
    for child in reversed(children):
        _signal_group(child, signal.SIGTERM)
    deadline = monotonic() + grace_s
    while not all(child.has_ended for child in children) and monotonic() < deadline:
        sleep(POLL_S)
    for child in children:
        # Always: a child that ended may have left members of its group behind.
        _signal_group(child, signal.SIGKILL)
        child.process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore the signals that end a program; only its main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """Ask the kernel, in a child before its program starts, for SIGTERM later on."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)
