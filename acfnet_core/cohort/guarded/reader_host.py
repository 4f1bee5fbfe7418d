"""The host of the readers: a process without threads that imports once and forks often.

It is started by `host_process` as a program of its own, never reads a foreign file, and
tells the asking process how each reader ended. It ends, and every reader with it, when
that process does: the kernel tells it so by the closed socket and, on Linux, by a
descriptor of the process itself.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from acfnet_core.cohort.guarded.frames import pack, receive_trusted
from acfnet_core.cohort.guarded.limits import (
    ReaderLimits,
    confine,
    end_with,
    start_clocks,
    stop_clock,
)
from acfnet_core.errors import AcfnetError

ORDER_BYTES = 512
"""Length of an order: JSON with the limits and the function's module, padded."""

STATUS = struct.Struct("!i")
"""How a reader ended, as `os.waitpid` has it."""

VALUE, ERROR, CRASH = "value", "error", "crash"
"""First part of a reader's frame; the second is a result, an `AcfnetError`, or a text
that names the kind of an unforeseen error and the line of code, and no value."""

EXIT_MEMORY = 71

_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], None]

_is_reader = False


def is_reader() -> bool:
    """Tell whether this process is a reader already: what it calls is guarded."""
    return _is_reader


def main() -> None:
    """Fork readers on demand until the asking process is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    host = _Host(control=control, asking_pid=int(sys.argv[2]))
    order = host.wait_for_orders()
    # From here on this is a reader: a copy that has left the loop.
    _serve(order)


@dataclass(frozen=True, kw_only=True)
class _Order:
    channel: socket.socket
    limits: ReaderLimits
    host_pid: int


@dataclass(kw_only=True)
class _Host:
    control: socket.socket
    asking_pid: int
    readers: dict[int, int | None] = field(default_factory=dict)
    """Process id of a reader -> descriptor to which its end is written; None once
    nobody waits for it."""

    def wait_for_orders(self) -> _Order:
        """Return in each reader with its order; in the host itself, never."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, _note)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        asking = [os.pidfd_open(self.asking_pid)] if hasattr(os, "pidfd_open") else []
        while True:
            ready = self._wait([self.control.fileno(), woken, *asking])
            if not ready.isdisjoint(asking):
                self._end()
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            self._kill_unwanted(ready)
            order = self._take_order() if self.control.fileno() in ready else None
            if order is not None:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (woken, wake, *asking, *self._status_ends()):
                    os.close(descriptor)
                self.control.close()
                return order

    def _wait(self, descriptors: list[int]) -> set[int]:
        """Return the descriptors that are ready, or whose other side is gone."""
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        for descriptor in self._status_ends():
            poll.register(descriptor, 0)
        return {descriptor for descriptor, _ in poll.poll()}

    def _take_order(self) -> _Order | None:
        """Fork a reader; return its order in the reader, None in the host."""
        content, descriptors, _, _ = socket.recv_fds(self.control, ORDER_BYTES, 2)
        if len(content) < ORDER_BYTES or len(descriptors) != 2:
            self._end()
        asked = json.loads(content)
        _import(asked["module"])
        host_pid = os.getpid()
        pid = os.fork()
        if pid:
            os.close(descriptors[0])
            self.readers[pid] = descriptors[1]
            return None
        os.close(descriptors[1])
        return _Order(
            channel=socket.socket(fileno=descriptors[0]),
            limits=ReaderLimits(**asked["limits"]),
            host_pid=host_pid,
        )

    def _reap(self) -> None:
        while self.readers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            descriptor = self.readers.pop(pid)
            if descriptor is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(descriptor, STATUS.pack(status))
                os.close(descriptor)

    def _kill_unwanted(self, ready: set[int]) -> None:
        """Kill each reader whose end nobody waits for any more."""
        for pid, descriptor in self.readers.items():
            if descriptor is not None and descriptor in ready:
                os.kill(pid, signal.SIGKILL)
                os.close(descriptor)
                self.readers[pid] = None

    def _status_ends(self) -> list[int]:
        return [one for one in self.readers.values() if one is not None]

    def _end(self) -> None:
        for pid in self.readers:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _import(module: str) -> None:
    """Import what the readers will need, so that they have it from birth."""
    if module in sys.modules:
        return
    try:
        importlib.import_module(module)
    except ImportError:
        return  # The reader meets the same error, and its end tells of it.
    # What is frozen is not touched by a reader's garbage collection, nor copied.
    gc.collect()
    gc.freeze()


def _serve(order: _Order) -> None:
    """Work on one list of items after the other, until the asking side hangs up."""
    global _is_reader
    _is_reader = True
    end_with(order.host_pid)
    sys.excepthook = _report_to(order.channel)
    confine(order.limits)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, items = receive_trusted(order.channel)
            _answer_each(order, function, items)
            stop_clock()
    os._exit(0)


def _answer_each(
    order: _Order, function: Callable[[Any], Any], items: list[Any]
) -> None:
    """Send the answer for each item as soon as there is one."""
    for item in items:
        start_clocks(order.limits)
        try:
            answer = pack((VALUE, function(item)))
        except AcfnetError as error:
            answer = pack((ERROR, error))
        except MemoryError:
            os._exit(EXIT_MEMORY)
        order.channel.sendall(answer)


def _report_to(channel: socket.socket) -> _Hook:
    """Return a hook that tells where an unforeseen error arose, without its text."""

    def report(
        kind: type[BaseException], _: BaseException, trace: TracebackType | None
    ) -> None:
        frames = traceback.extract_tb(trace)
        place = "nowhere"
        if frames:
            place = (
                f"{'/'.join(Path(frames[-1].filename).parts[-3:])}:{frames[-1].lineno}"
            )
        channel.sendall(pack((CRASH, f"{kind.__qualname__} at {place}")))
        os._exit(1)

    return report


def _note(_number: int, _frame: object) -> None:
    """Let a signal wake the loop."""
