"""The one host of readers that a process has: started when first needed, and watched.

The host is a fresh program, not a fork of this process, which may have threads. It has
a session of its own, so that Ctrl-C reaches this process alone, which ends the readers.
"""

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from acfnet_core.cohort.guarded.limits import ReaderLimits
from acfnet_core.cohort.guarded.reader_host import ORDER_BYTES
from acfnet_core.errors import MachineError

_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from acfnet_core.cohort.guarded.reader_host import main; main()"
)
_END_S = 5.0
_MOST_IDLE = 4
_ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "2",
}
"""A process with threads must not fork; and each thread's stack counts as memory."""


@dataclass(kw_only=True)
class Line:
    """The two lines to a reader: for frames, and for how it ended.

    Attributes:
        num_left: Items that it may still take.
    """

    module: str
    limits: ReaderLimits
    channel: socket.socket
    status: int
    num_left: int

    def close(self) -> None:
        """Hang up; the host kills a reader that still runs."""
        self.channel.close()
        os.close(self.status)

    def is_silent(self) -> bool:
        """Tell whether nothing has come from the reader, its end included."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        return not poll.poll(0)


@dataclass(frozen=True, kw_only=True)
class _Running:
    process: subprocess.Popen[bytes]
    control: socket.socket


_lock = threading.Lock()
_running: _Running | None = None
_idle: list[Line] = []


def ask_for_reader(module: str, limits: ReaderLimits) -> Line:
    """Take a reader that is at leisure, or have the host fork one.

    Args:
        module: Where the function is that the reader will run.
        limits: Of the reader.

    Raises:
        MachineError: `machine.process_died`: no host can be started.
    """
    with _lock:
        for line in [
            one for one in _idle if (one.module, one.limits) == (module, limits)
        ]:
            _idle.remove(line)
            if line.is_silent():
                return line
            line.close()
    order = json.dumps({"module": module, "limits": asdict(limits)}).encode()
    if len(order) > ORDER_BYTES:
        raise ValueError(f"the module's name is too long: {module}")
    ours, theirs = socket.socketpair()
    status, status_end = os.pipe()
    try:
        with _lock:
            _send(order.ljust(ORDER_BYTES), [theirs.fileno(), status_end])
    except MachineError:
        ours.close()
        os.close(status)
        raise
    finally:
        theirs.close()
        os.close(status_end)
    return Line(
        module=module,
        limits=limits,
        channel=ours,
        status=status,
        num_left=limits.num_items,
    )


def give_back(line: Line) -> None:
    """Keep a reader that has answered everything for the next who asks.

    It is let go once it has taken its number of items; of many, the oldest goes.
    """
    with _lock:
        if line.num_left > 0:
            _idle.append(line)
        else:
            line.close()
        if len(_idle) > _MOST_IDLE:
            _idle.pop(0).close()


def stop_host() -> None:
    """End the host and every reader; the next reader gets a new host."""
    global _running
    with _lock:
        running, _running = _running, None
        _hang_up()
    if running is None:
        return
    running.control.close()
    try:
        running.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()


def _send(order: bytes, descriptors: list[int]) -> None:
    """Send an order, to a new host if the old one is gone."""
    for _ in range(2):
        running = _host()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(running.control, [order], descriptors)
            return
        _drop(running)
    raise MachineError(
        "machine.process_died",
        "The process that starts the readers of files ends as soon as it is started.",
        remedy="Look whether memory or processes are short on this machine, and "
        "repeat the command; finished scans are kept.",
    )


def _host() -> _Running:
    global _running
    if _running is not None and _running.process.poll() is not None:
        _drop(_running)
        _running = None
    if _running is None:
        _running = _start()
    return _running


def _start() -> _Running:
    ours, theirs = socket.socketpair()
    code = _START.format(path=[str(Path(part).absolute()) for part in sys.path])
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-c", code, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # What a decoder says of a file may quote the patient's name.
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return _Running(process=process, control=ours)


def _drop(running: _Running) -> None:
    running.control.close()
    running.process.kill()
    running.process.wait()


def _hang_up() -> None:
    for line in _idle:
        line.close()
    _idle.clear()


def _forget() -> None:
    """Let a forked copy of this process have a host of its own."""
    global _running, _lock
    _lock = threading.Lock()
    _hang_up()
    if _running is not None:
        _running.control.close()
        # It is the other process' child: it is not to be waited for here.
        _running.process.returncode = 0
    _running = None


atexit.register(stop_host)
os.register_at_fork(after_in_child=_forget)
