"""What benchmarks/rounds.py counts: bytes, processor time, memory and rounds."""

import importlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASUREMENT = "a-measurement"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@contextmanager
def running(load: Load, code: str) -> Iterator[subprocess.Popen[bytes]]:
    watch = load("round_peers.process_watch")
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=watch.role_environment(MEASUREMENT, "site-1"),
        stdin=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    given_up = monotonic() + 10
    while not condition():
        assert monotonic() < given_up
        sleep(0.02)


def test_the_relay_counts_the_bytes_of_both_ways(load: Load) -> None:
    relay_module = load("round_peers.relay")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        relay_module.counting_relay(server.getsockname()[1]) as relay,
        socket.create_connection(("127.0.0.1", relay.port)) as site,
    ):
        link, _ = server.accept()
        with link:
            site.sendall(b"x" * 300_000)
            left = 300_000
            while left:
                left -= len(link.recv(left))
            link.sendall(b"y" * 7)
            assert site.recv(7, socket.MSG_WAITALL) == b"y" * 7
        assert relay.num_bytes == 300_007


def test_the_relay_ends_a_connection_whose_server_is_away(load: Load) -> None:
    relay_module = load("round_peers.relay")
    with (
        relay_module.counting_relay(relay_module.free_loopback_port()) as relay,
        socket.create_connection(("127.0.0.1", relay.port)) as site,
    ):
        assert site.recv(1) == b""


def test_a_process_is_counted_to_its_role(load: Load) -> None:
    watch = load("round_peers.process_watch").ProcessWatch(MEASUREMENT)
    with running(load, "input()"):
        wait_for(lambda: watch.sample().rss_bytes.get("site-1", 0) > 1_000_000)


def test_a_process_of_another_measurement_is_not_counted(load: Load) -> None:
    module = load("round_peers.process_watch")
    with running(load, "input()"):
        assert not module.ProcessWatch("another").sample().rss_bytes


def test_processor_time_of_ended_children_is_counted(load: Load) -> None:
    watch = load("round_peers.process_watch").ProcessWatch(MEASUREMENT)
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "input()"
    )
    with running(load, code):
        wait_for(lambda: watch.sample().cpu_seconds > 0.3)


def test_what_a_peer_leaves_behind_is_ended(load: Load) -> None:
    module = load("round_peers.process_watch")
    with running(load, "input()") as process:
        with module.watching(MEASUREMENT) as watch:
            wait_for(lambda: bool(watch.sample().rss_bytes))
        assert process.wait(timeout=5) != 0


def test_processor_time_between_two_times_is_interpolated(load: Load) -> None:
    module = load("round_peers.process_watch")
    samples = [
        module.Sample(time=float(t), cpu_seconds=2.0 * t, rss_bytes={}) for t in (0, 4)
    ]
    assert module.cpu_between(samples, 1.0, 2.5) == pytest.approx(3.0)


def test_peak_memory_ends_with_the_last_round(load: Load) -> None:
    module = load("round_peers.process_watch")
    samples = [
        module.Sample(time=float(t), cpu_seconds=0.0, rss_bytes={"server": rss})
        for t, rss in ((0, 5), (1, 9), (2, 50))
    ]
    assert module.peak_rss(samples, until=1.5) == {"server": 9}


@pytest.mark.parametrize("mb", [0.1, 1.0])
def test_the_model_has_sixty_tensors_of_the_size_asked_for(
    load: Load, mb: float
) -> None:
    tensors = load("round_peers.sixty_tensors").sixty_tensors(mb)
    sizes = [value.nbytes for value in tensors.values()]
    assert (len(sizes), sum(sizes)) == (60, mb * 1_000_000)


def test_a_round_ends_when_the_next_begins(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with load("round_peers.round_clock").RoundClock(path) as clock:
        for number in (1, 2, 3):
            with path.open("a") as file:
                file.write(
                    json.dumps({"kind": "round_started", "round": number}) + "\n"
                )
            sleep(0.05)
    first, second = clock.round_ends(2)
    assert 0.02 < second - first < 1.0


def test_a_peer_stands_for_all_of_its_rows(load: Load) -> None:
    rows = load("rounds").rows_of(["ours", "flare"])
    assert [row for _, row, _ in rows] == ["ours", "flare", "flare-fast"]


def test_an_unknown_peer_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="no peer 'nobody'"):
        list(load("rounds").rows_of(["nobody"]))


@pytest.mark.integration
def test_our_rounds_are_measured() -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(BENCHMARKS / "rounds.py"), "--peers", "ours"),
            *("--sites", "1", "--mb", "0.1", "--rounds", "3", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    (cost,) = json.loads(done.stdout)
    assert cost["peer"] == "ours"
    assert 200_000 < cost["bytes_per_round"] < 300_000
    assert min(cost["seconds_per_round"], cost["cpu_seconds_per_round"]) > 0
    assert cost["peak_rss_mb"] > 50
