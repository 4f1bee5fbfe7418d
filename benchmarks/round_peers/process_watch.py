"""Processor time and memory of all processes of a peer, read from /proc.

What a peer starts carries its role in its environment, whatever it starts inherits it,
and so is found again even when it has left its parent. Processor time of a role is that
of its living processes with the ended children that they waited for.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep, time

import numpy as np

ROLE_VARIABLE = "ROUNDS_BENCHMARK_ROLE"
SERVER = "server"
SAMPLE_S = 0.2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_GRACE_S = 2.0
_END_LOOK_S = 0.05


def role_environment(token: str, role: str) -> dict[str, str]:
    """Return what a process must have in its environment to be counted.

    Args:
        token: One for each measurement.
        role: `SERVER` or a site's name.
    """
    return {ROLE_VARIABLE: f"{token}:{role}"}


@dataclass(frozen=True)
class Process:
    """One process as it stands in /proc."""

    parent: int
    cpu_seconds: float
    """Its own and that of ended children it waited for."""
    rss_bytes: int
    started: int
    """In ticks since the machine's start; with its number it names a process."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at a peer's processes."""

    time: float
    cpu_seconds: float
    """Of all of them."""
    rss_bytes: Mapping[str, int]
    """Role to resident memory."""


@dataclass
class ProcessWatch:
    """Samples the processes of one measurement until it is told to end.

    Args:
        token: As in `role_environment`.
    """

    token: str
    samples: list[Sample] = field(default_factory=list)
    _roles: dict[tuple[int, int], str | None] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Take a sample every `SAMPLE_S` seconds."""
        while not self._ended.wait(SAMPLE_S):
            self.samples.append(self.sample())

    def end(self) -> None:
        """Take no further sample."""
        self._ended.set()

    def sample(self) -> Sample:
        """Look at the processes now."""
        moment = time()
        processes = read_processes()
        roles = self.find_roles(processes)
        rss: dict[str, int] = {}
        for pid, role in roles.items():
            # One that has ended and was not waited for has no memory any more.
            if processes[pid].rss_bytes:
                rss[role] = rss.get(role, 0) + processes[pid].rss_bytes
        cpu = sum(processes[pid].cpu_seconds for pid in roles)
        return Sample(time=moment, cpu_seconds=cpu, rss_bytes=rss)

    def find_roles(self, processes: Mapping[int, Process]) -> dict[int, str]:
        """Return the role of each process that belongs to the measurement."""
        roles = {}
        for pid, process in processes.items():
            role = self._role_of(pid, process) or self._role_of_parent(
                process, processes
            )
            if role is not None:
                roles[pid] = role
        return roles

    def _role_of(self, pid: int, process: Process) -> str | None:
        key = (pid, process.started)
        role = self._roles.get(key)
        # Between fork and exec a process still has its parent's environment, so that
        # one without a role may get one; one that has it keeps it.
        if role is None:
            role = self._roles[key] = _read_role(pid, self.token)
        return role

    def _role_of_parent(
        self, process: Process, processes: Mapping[int, Process]
    ) -> str | None:
        """Return whose child it is: one that has ended shows no environment."""
        parent = processes.get(process.parent)
        return None if parent is None else self._role_of(process.parent, parent)


def cpu_between(samples: list[Sample], start: float, end: float) -> float:
    """Return the processor seconds between two times."""
    times = [sample.time for sample in samples]
    cpu = np.interp([start, end], times, [sample.cpu_seconds for sample in samples])
    return float(cpu[1] - cpu[0])


def peak_rss(samples: list[Sample], *, until: float) -> dict[str, int]:
    """Return role to the largest memory of its processes together, in bytes."""
    peaks: dict[str, int] = {}
    for sample in samples:
        if sample.time <= until:
            for role, rss in sample.rss_bytes.items():
                peaks[role] = max(rss, peaks.get(role, 0))
    return peaks


@contextmanager
def watching(token: str) -> Iterator[ProcessWatch]:
    """Watch the processes of a measurement; end what is left of them afterwards."""
    watch = ProcessWatch(token)
    thread = threading.Thread(target=watch.run, name="process watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
        _end_left_behind(watch)


def read_processes() -> dict[int, Process]:
    """Return every process of the machine by its number."""
    processes = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            processes[int(path.parent.name)] = Process(
                parent=int(fields[1]),
                cpu_seconds=sum(map(int, fields[11:15])) / _TICKS_PER_S,
                rss_bytes=int(fields[21]) * _PAGE_BYTES,
                started=int(fields[19]),
            )
    return processes


def _read_role(pid: int, token: str) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    start = f"{ROLE_VARIABLE}={token}:".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(start):
            return entry.removeprefix(start).decode()
    return None


def _end_left_behind(watch: ProcessWatch) -> None:
    """End what a peer has started and not ended itself: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in watch.find_roles(read_processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        given_up = time() + _GRACE_S
        while watch.sample().rss_bytes and time() < given_up:
            sleep(_END_LOOK_S)
