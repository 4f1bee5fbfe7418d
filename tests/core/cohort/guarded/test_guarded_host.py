import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys; sys.path[:] = {path!r}
from acfnet_core.cohort.guarded.limits import SCAN_LIMITS
from acfnet_core.cohort.guarded.reader import read_one
from references import hostile_files
read_one(hostile_files.note_processes, {noted!r}, limits=SCAN_LIMITS)
"""


def _start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def _code(noted: Path) -> str:
    return PROGRAM.format(path=sys.path, noted=str(noted))


def _noted_processes(noted: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if noted.exists() and len(noted.read_text().split()) == 2:
            return [int(part) for part in noted.read_text().split()]
        time.sleep(0.02)
    pytest.fail("no reader was started")


def _are_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.integration
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="asks /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_readers_end_with_the_process_that_asked(
    number: signal.Signals, tmp_path: Path
) -> None:
    with _start(_code(tmp_path / "noted")) as asking:
        pids = _noted_processes(tmp_path / "noted")
        start = time.monotonic()
        asking.send_signal(number)
        asking.communicate(timeout=20)
    assert time.monotonic() - start < 3
    assert _are_gone(pids)


@pytest.mark.integration
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="asks /proc")
def test_the_host_has_one_thread(tmp_path: Path) -> None:
    """A process with threads must not fork."""
    with _start(_code(tmp_path / "noted")) as asking:
        _, host = _noted_processes(tmp_path / "noted")
        num_threads = len(list(Path(f"/proc/{host}/task").iterdir()))
        asking.kill()
        asking.communicate(timeout=20)
    assert num_threads == 1
