"""Running a function that reads foreign files, so that a file can cost only itself.

Each list of items gets a reader, a process of its own with limits. It answers item by
item. When it dies, the first item without an answer was its death, and the items after
it get a new reader.
"""

import logging
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from acfnet_core.cohort.guarded.frames import ForeignObjectError, FrameBuffer, pack
from acfnet_core.cohort.guarded.host_process import (
    Line,
    ask_for_reader,
    give_back,
)
from acfnet_core.cohort.guarded.limits import ReaderLimits
from acfnet_core.cohort.guarded.reader_host import (
    CRASH,
    ERROR,
    EXIT_MEMORY,
    STATUS,
    is_reader,
)
from acfnet_core.errors import AcfnetError, MachineError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_GRACE_S = 15.0
"""Beyond its own clock, for a reader that the kernel cannot end (a dead network
drive): it is left behind."""
_MOST_LOST_HOSTS = 3
_PART_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ReaderFailure:
    """An item at which a reader ended before it had an answer.

    Attributes:
        code: `READER_LIMIT` if it asked for too much, `READER_DIED` otherwise.
        reason: For the log of this machine; no part of the file is in it.
    """

    code: Literal["READER_DIED", "READER_LIMIT"]
    reason: str


def read_one(
    function: Callable[[Item], Result], item: Item, *, limits: ReaderLimits
) -> Result | ReaderFailure:
    """Call a function of one item in a reader.

    Raises:
        AcfnetError: The function raised it.
    """
    (reading,) = read_each(function, [item], limits=limits)
    return reading


def read_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    limits: ReaderLimits,
    batch_size: int = 1,
    num_readers: int = 1,
) -> Generator[Result | ReaderFailure, None, None]:
    """Call a function of each item in readers, and yield the results in order.

    Args:
        function: Of a module, not a closure; it takes and returns what can be pickled.
            An error of it that is no `AcfnetError` is a failure of the item.
        items: Each small: paths and headers, not pixels.
        limits: For each item; memory for each batch.
        batch_size: Items that a reader works on before the next one takes over.
        num_readers: Most readers at a time.

    Raises:
        AcfnetError: The function raised it.
        MachineError: Readers cannot be started.
    """
    if is_reader():
        yield from map(function, items)
        return
    batches = deque(
        range(start, min(start + batch_size, len(items)))
        for start in range(0, len(items), batch_size)
    )
    work = _Work(function=function, items=items, limits=limits, batches=batches)
    try:
        for index in range(len(items)):
            while index not in work.readings:
                work.start_readers(num_readers)
                work.take_answers()
            reading = work.readings.pop(index)
            if isinstance(reading, AcfnetError):
                raise reading
            yield reading
    finally:
        work.abandon()


@dataclass(kw_only=True, eq=False)
class _Reader:
    """A running reader and the items that it has not answered yet."""

    line: Line
    left: range
    deadline: float
    buffer: FrameBuffer = field(default_factory=FrameBuffer)
    crash: str = ""


@dataclass(kw_only=True)
class _Work:
    function: Callable[[Any], Any]
    items: Sequence[Any]
    limits: ReaderLimits
    batches: deque[range]
    readings: dict[int, Any] = field(default_factory=dict)
    readers: dict[int, _Reader] = field(default_factory=dict)
    """Descriptor of the channel -> reader."""
    num_lost_hosts: int = 0

    def start_readers(self, num_readers: int) -> None:
        while self.batches and len(self.readers) < num_readers:
            batch = self.batches.popleft()
            line = ask_for_reader(self.function.__module__, self.limits)
            line.num_left -= len(batch)
            reader = _Reader(line=line, left=batch, deadline=self._deadline())
            self.readers[line.channel.fileno()] = reader
            order = pack((self.function, [self.items[index] for index in batch]))
            try:
                line.channel.sendall(order)
            except (BrokenPipeError, ConnectionResetError):
                continue  # It is found dead when its answers are taken.

    def take_answers(self) -> None:
        """Wait until a reader has something to say, and take it."""
        poll = select.poll()
        for descriptor in self.readers:
            poll.register(descriptor, select.POLLIN)
        first = min(reader.deadline for reader in self.readers.values())
        wait_s = max(0.0, first - time.monotonic())
        for descriptor, _ in poll.poll(wait_s * 1000 + 1):
            self._take_from(self.readers[descriptor])
        now = time.monotonic()
        late = [one for one in self.readers.values() if one.deadline < now]
        for reader in late:
            self._retire(
                reader, ReaderFailure(code="READER_LIMIT", reason="it cannot be ended")
            )

    def abandon(self) -> None:
        for reader in self.readers.values():
            reader.line.close()
        self.readers.clear()

    def _take_from(self, reader: _Reader) -> None:
        try:
            is_there = self._read_answers(reader)
        except (ForeignObjectError, TypeError, ValueError):
            self._retire(
                reader, ReaderFailure(code="READER_DIED", reason="it answered nonsense")
            )
            return
        if not is_there:
            self._bury(reader)
        elif not reader.left:
            del self.readers[reader.line.channel.fileno()]
            give_back(reader.line)

    def _read_answers(self, reader: _Reader) -> bool:
        """Take what a reader has sent; return False at its end."""
        try:
            content = reader.line.channel.recv(_PART_BYTES)
        except ConnectionResetError:
            return False
        for kind, answer in reader.buffer.feed(content):
            self._note(reader, kind, answer)
        if not reader.left and reader.buffer:
            raise ForeignObjectError
        return bool(content)

    def _note(self, reader: _Reader, kind: str, answer: Any) -> None:
        if kind == CRASH:
            reader.crash = str(answer)
            return
        if not reader.left or (kind == ERROR) != isinstance(answer, AcfnetError):
            raise ForeignObjectError
        self.readings[reader.left[0]] = answer
        reader.left = reader.left[1:]
        reader.deadline = self._deadline()

    def _bury(self, reader: _Reader) -> None:
        content = os.read(reader.line.status, STATUS.size)
        if content:
            (status,) = STATUS.unpack(content)
            self._retire(reader, _failure_of(status, reader.crash))
            return
        # The host itself is gone; no file is to blame.
        self.num_lost_hosts += 1
        if self.num_lost_hosts >= _MOST_LOST_HOSTS:
            raise MachineError(
                "machine.process_died",
                "The process that starts the readers of files ended unexpectedly, "
                f"{self.num_lost_hosts} times.",
                remedy="Repeat the command, with fewer workers if memory is short; "
                "finished scans are kept.",
            )
        self._retire(reader, None)

    def _retire(self, reader: _Reader, failure: ReaderFailure | None) -> None:
        """Let a reader go; what it has not done goes to the next one."""
        del self.readers[reader.line.channel.fileno()]
        reader.line.close()
        left = reader.left
        if failure is not None and left:
            logger.warning("a reader of files ended early: %s", failure.reason)
            self.readings[left[0]] = failure
            left = left[1:]
        if left:
            self.batches.appendleft(left)

    def _deadline(self) -> float:
        return time.monotonic() + self.limits.wall_s + _GRACE_S


def _failure_of(status: int, crash: str) -> ReaderFailure:
    """Tell from a reader's end what it died of."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        limits: dict[int, str] = {
            signal.SIGXCPU: "processor time",
            signal.SIGALRM: "time",
        }
        if number in limits:
            return ReaderFailure(
                code="READER_LIMIT", reason=f"limit of {limits[number]}"
            )
        return ReaderFailure(code="READER_DIED", reason=f"signal {number}")
    exit_status = os.WEXITSTATUS(status)
    if exit_status == EXIT_MEMORY:
        return ReaderFailure(code="READER_LIMIT", reason="limit of memory")
    return ReaderFailure(
        code="READER_DIED", reason=crash or f"exit status {exit_status}"
    )
