"""One measurement: a peer, a number of sites and a size, and what its rounds cost."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import time
from typing import Any

import numpy as np
from round_peers.process_watch import (
    SERVER,
    cpu_between,
    peak_rss,
    role_environment,
    watching,
)
from round_peers.relay import Relay, counting_relay, free_loopback_port

FIRST_SITE = "site-1"
FEWEST_ROUNDS = 2
LEAST_SHARE = 0.95
"""Of the model to every site and back: the values are noise, not to be compressed."""
_BYTES_OF_MB = 1_000_000
_COUNT_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a peer is to do: start everything, do the rounds, end everything."""

    num_sites: int
    mb: float
    num_rounds: int
    folder: Path
    """For whatever it writes; it is removed afterwards."""
    environment: Path
    """Of Python: the folder that holds `bin`."""
    server_port: int
    """Where its server is to listen, on loopback."""
    relay_port: int
    """What its sites are to connect to."""
    token: str

    @property
    def sites(self) -> list[str]:
        """The sites' names."""
        return [f"site-{number}" for number in range(1, self.num_sites + 1)]

    def role(self, role: str) -> dict[str, str]:
        """Return the environment of a process that counts to the server or a site."""
        return role_environment(self.token, role)

    def program(self, name: str) -> str:
        """Return the path of a program of the peer's environment."""
        return str(self.environment / "bin" / name)


Play = Callable[[Task], Sequence[float]]
"""Does a task; returns when each round ended, by the clock of the peer's server."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a round of a peer costs."""

    peer: str
    version: str
    sites: int
    mb: float
    seconds_per_round: float
    """Median over the rounds but the first."""
    cpu_seconds_per_round: float
    """Mean: of all processes of the server and of the sites."""
    bytes_per_round: int
    """Mean: between server and sites, both ways."""
    peak_rss_mb: float
    """Of the server's processes together, the start and the first round included."""
    site_peak_rss_mb: float
    """The same of one site."""
    round_seconds: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return one object of the list that `--json` prints."""
        return asdict(self)


def measure(
    play: Play,
    *,
    peer: str,
    version: str,
    environment: Path,
    num_sites: int,
    mb: float,
    num_rounds: int,
) -> Cost:
    """Have a peer do its rounds and return what one of them costs.

    Raises:
        ValueError: It did another number of rounds, or left a site out.
    """
    token = uuid.uuid4().hex
    server_port = free_loopback_port()
    with (
        _folder_for_logs() as folder,
        watching(token) as watch,
        counting_relay(server_port) as relay,
        _Counter(relay) as counter,
    ):
        ends = play(
            Task(
                num_sites=num_sites,
                mb=mb,
                num_rounds=num_rounds,
                folder=folder,
                environment=environment,
                server_port=server_port,
                relay_port=relay.port,
                token=token,
            )
        )
    if len(ends) != num_rounds:
        raise ValueError(f"{peer} did {len(ends)} of {num_rounds} rounds")
    first, last, measured = ends[0], ends[-1], num_rounds - 1
    num_bytes = round(counter.between(first, last) / measured)
    if num_bytes < LEAST_SHARE * 2 * num_sites * mb * _BYTES_OF_MB:
        raise ValueError(f"{peer} sent {num_bytes} bytes a round: a site was left out")
    seconds = np.diff(ends).tolist()
    peaks = peak_rss(watch.samples, until=last)
    return Cost(
        peer=peer,
        version=version,
        sites=num_sites,
        mb=mb,
        seconds_per_round=median(seconds),
        cpu_seconds_per_round=cpu_between(watch.samples, first, last) / measured,
        bytes_per_round=num_bytes,
        peak_rss_mb=peaks[SERVER] / _BYTES_OF_MB,
        site_peak_rss_mb=peaks[FIRST_SITE] / _BYTES_OF_MB,
        round_seconds=tuple(seconds),
    )


@contextmanager
def _folder_for_logs() -> Iterator[Path]:
    """Make a folder that is removed at the end, but left where it did not go well."""
    folder = Path(tempfile.mkdtemp(prefix="rounds-"))
    try:
        yield folder
    except BaseException as error:
        error.add_note(f"The logs are in {folder}.")
        raise
    shutil.rmtree(folder, ignore_errors=True)


class _Counter:
    """Notes over time how many bytes a relay has counted."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._times: list[float] = []
        self._counts: list[int] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, name="byte counter", daemon=True)

    def __enter__(self) -> "_Counter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def between(self, start: float, end: float) -> float:
        """Return the bytes between two times."""
        counts = np.interp([start, end], self._times, self._counts)
        return float(counts[1] - counts[0])

    def _run(self) -> None:
        while not self._ended.wait(_COUNT_S):
            self._times.append(time())
            self._counts.append(self._relay.num_bytes)
