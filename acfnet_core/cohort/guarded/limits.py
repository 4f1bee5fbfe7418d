"""What a reader may use of the machine, and how the kernel is told.

Linux holds all of it. macOS has no limit on memory that holds, and no signal at a
parent's death: there a reader that fills the memory is stopped by its time alone.
"""

import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_IS_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None) if _IS_LINUX else None
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_MAX_OPEN_FILES = 256
_MAX_FILE_BYTES = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class ReaderLimits:
    """What a reader may use.

    Attributes:
        memory_bytes: Data (RLIMIT_DATA) beyond what its imports took. The address
            space is no good measure: shared libraries and reserved arenas fill it.
        cpu_s: Processor time for one item, of all threads.
        wall_s: Time for one item.
        num_items: After so many a reader is replaced, so that nothing piles up in it.
    """

    memory_bytes: int
    cpu_s: int
    wall_s: int
    num_items: int


HEADER_LIMITS = ReaderLimits(memory_bytes=1024**3, cpu_s=20, wall_s=120, num_items=2000)
"""For the header of one file; a header takes 0.3 ms."""

LOOK_LIMITS = ReaderLimits(
    memory_bytes=2 * 1024**3, cpu_s=120, wall_s=600, num_items=2000
)
"""For one file as a whole, whatever it is."""

SCAN_LIMITS = ReaderLimits(
    memory_bytes=4 * 1024**3, cpu_s=600, wall_s=1800, num_items=16
)
"""For one scan, from its files to the prepared tensor: 1,500 slices of 512 x 512."""

TABLE_LIMITS = ReaderLimits(
    memory_bytes=2 * 1024**3, cpu_s=120, wall_s=600, num_items=100
)
"""For a clinical table; 100,000 rows take 2 s."""


def end_with(parent_pid: int) -> None:
    """Have this process killed when its parent ends, and give up new privileges."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def confine(limits: ReaderLimits) -> None:
    """Lower this process' limits on memory, files and core dumps; for good."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    if _IS_LINUX:
        _lower(resource.RLIMIT_DATA, _data_bytes() + limits.memory_bytes)


def start_clocks(limits: ReaderLimits) -> None:
    """Give the next item its time; the kernel ends a process that takes more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = used_s + 1 + limits.cpu_s
    resource.setrlimit(
        resource.RLIMIT_CPU,
        (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard),
    )
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)


def stop_clock() -> None:
    """Let this process wait for its next order as long as it takes."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _data_bytes() -> int:
    """Return what the kernel counts against RLIMIT_DATA now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmData:"))
    return int(found) * 1024
