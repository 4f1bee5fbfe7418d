import os
import select
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from references.demo_runs import processes_naming

from acfnet_core import processes
from acfnet_core.errors import MachineError
from acfnet_core.processes import (
    OUTER_GRACE_S,
    Child,
    check_alive,
    is_ready,
    start_child,
    stop_children,
    wait_until,
    watch,
)

SHELL = shutil.which("sh") or "/bin/sh"
LONG_S = 20.0

Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start shell text as a child; whatever the test leaves is ended after it."""
    started: list[Child] = []

    def start_text(text: str) -> Child:
        child = start_child(
            f"child {len(started)}",
            [SHELL, "-c", text],
            log_file=tmp_path / "logs" / "child.log",
            environment={"PIPE": str(tmp_path / "pipe"), "COLOUR": "red"},
        )
        started.append(child)
        return child

    yield start_text
    stop_children(started, grace_s=0.0)


@contextmanager
def _pipe(tmp_path: Path) -> Iterator[int]:
    """Make a pipe whose end is seen when no process holds it open any more."""
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(pipe: int) -> bytes:
    """Return what was written, or nothing when every holder of the pipe is gone."""
    assert select.select([pipe], [], [], LONG_S)[0], "a process is still there"
    return os.read(pipe, 100)


def _wait_for_end(child: Child) -> None:
    child.process.wait(timeout=LONG_S)


def test_the_output_goes_to_the_log(start: Start) -> None:
    child = start("echo out; echo err >&2")
    _wait_for_end(child)
    assert child.log_file.read_bytes() == b"out\nerr\n"


def test_the_log_is_readable_by_this_user_only(start: Start) -> None:
    child = start("true")
    assert stat.S_IMODE(child.log_file.stat().st_mode) == 0o600


def test_a_second_start_adds_to_the_log(start: Start) -> None:
    _wait_for_end(start("echo first"))
    child = start("echo second")
    _wait_for_end(child)
    assert child.log_file.read_bytes() == b"first\nsecond\n"


def test_a_child_gets_its_variables_on_top_of_ours(start: Start) -> None:
    child = start('echo "$COLOUR $PATH"')
    _wait_for_end(child)
    assert child.log_file.read_text() == f"red {os.environ['PATH']}\n"


def test_a_child_reads_nothing_from_the_terminal(start: Start) -> None:
    child = start("cat; echo end")
    _wait_for_end(child)
    assert child.log_file.read_bytes() == b"end\n"


def test_a_child_and_what_it_started_are_both_gone(
    start: Start, tmp_path: Path
) -> None:
    with _pipe(tmp_path) as pipe:
        child = start('exec > "$PIPE"; sleep 60 & echo up; wait')
        assert _read(pipe) == b"up\n"
        stop_children([child])
        assert child.has_ended
        assert _read(pipe) == b""


def test_who_does_not_listen_is_killed(start: Start, tmp_path: Path) -> None:
    with _pipe(tmp_path) as pipe:
        child = start('trap "" TERM; exec > "$PIPE"; sleep 60 & echo up; wait')
        assert _read(pipe) == b"up\n"
        stop_children([child], grace_s=0.2)
        assert child.has_ended
        assert _read(pipe) == b""


def test_what_a_child_left_behind_is_ended_too(start: Start, tmp_path: Path) -> None:
    with _pipe(tmp_path) as pipe:
        child = start('exec > "$PIPE"; (trap "" TERM; echo up; exec sleep 60) &')
        assert _read(pipe) == b"up\n"
        _wait_for_end(child)
        stop_children([child])
        assert _read(pipe) == b""


def test_a_child_is_asked_before_it_is_killed(start: Start, tmp_path: Path) -> None:
    with _pipe(tmp_path) as pipe:
        child = start(
            'trap "echo bye; exit 0" TERM; echo up > "$PIPE"; sleep 60 & wait'
        )
        assert _read(pipe) == b"up\n"
        stop_children([child])
    assert child.process.returncode == 0
    assert b"bye\n" in child.log_file.read_bytes()


def test_children_that_ended_can_be_stopped_again(start: Start) -> None:
    child = start("true")
    _wait_for_end(child)
    stop_children([child])
    stop_children([child])
    assert child.process.returncode == 0


def test_stopping_does_not_wait_out_the_grace(start: Start) -> None:
    child = start("exec sleep 60")
    started = monotonic()
    stop_children([child], grace_s=LONG_S)
    assert monotonic() - started < LONG_S / 2


def test_waiting_ends_when_it_is_ready(start: Start) -> None:
    child = start("echo up; exec sleep 60")
    wait_until(
        lambda: child.log_file.read_bytes() == b"up\n",
        children=[child],
        timeout_s=LONG_S,
    )
    assert not child.has_ended


def test_waiting_ends_with_an_error_when_a_child_ends(start: Start) -> None:
    children = [start("exec sleep 60"), start("exit 7")]
    with pytest.raises(MachineError, match="child 1 ended with status 7") as caught:
        wait_until(lambda: False, children=children, timeout_s=LONG_S)
    assert caught.value.code == "machine.process_died"
    assert str(children[1].log_file) in caught.value.remedy


def test_waiting_ends_with_an_error_when_the_time_is_over(start: Start) -> None:
    child = start("exec sleep 60")
    with pytest.raises(MachineError, match="Not ready after 0 s: child 0") as caught:
        wait_until(lambda: False, children=[child], timeout_s=0.05)
    assert caught.value.code == "machine.start_timeout"
    assert str(child.log_file.parent) in caught.value.remedy


def test_watching_ends_with_an_error_when_a_child_ends(start: Start) -> None:
    with pytest.raises(MachineError, match="child 0 ended with status 3"):
        watch([start("exit 3")])


def test_a_living_child_passes_the_check(start: Start) -> None:
    check_alive([start("exec sleep 60")])


def test_a_child_is_ready_when_its_log_says_so(start: Start) -> None:
    child = start("echo Starting; echo 'Ready. Now type ...'")
    _wait_for_end(child)
    assert is_ready(child)


def test_a_child_is_not_ready_because_an_earlier_one_was(start: Start) -> None:
    _wait_for_end(start("echo Ready."))
    again = start("echo Starting")
    _wait_for_end(again)
    assert not is_ready(again)


def test_a_program_that_is_not_there_leaves_no_child(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start_child("absent", [str(tmp_path / "no")], log_file=tmp_path / "log")


def test_a_child_leads_a_process_group_of_its_own(start: Start) -> None:
    child = start("exec sleep 60")
    assert os.getpgid(child.process.pid) == child.process.pid != os.getpgid(0)


def test_python_can_be_a_child(tmp_path: Path) -> None:
    child = start_child(
        "python", [sys.executable, "-c", "raise SystemExit(5)"], log_file=tmp_path / "l"
    )
    _wait_for_end(child)
    assert child.process.returncode == 5


_NESTED = """
import sys
from pathlib import Path
from acfnet_core.edge import end_on_signals
from acfnet_core.processes import start_child, stop_children, watch
end_on_signals()
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
stubborn += "open(%r, 'w'); print('Ready.', flush=True); time.sleep(60)"
child = start_child("inner", [sys.executable, "-c", stubborn % sys.argv[1]],
                    log_file=Path(sys.argv[2]))
try:
    while b"Ready." not in Path(sys.argv[2]).read_bytes():
        pass
    print("Ready.", flush=True)
    watch([child])
finally:
    stop_children([child], grace_s=0.5)
"""
"""A program that starts one that will not end, and holds a pipe open."""


def _start_nested(tmp_path: Path) -> Child:
    script = tmp_path / "nested.py"
    script.write_text(_NESTED)
    arguments = [str(tmp_path / "pipe"), str(tmp_path / "inner.log")]
    return start_child(
        "outer",
        [sys.executable, str(script), *arguments],
        log_file=tmp_path / "outer.log",
    )


def test_a_stubborn_child_of_a_child_is_ended_too(tmp_path: Path) -> None:
    with _pipe(tmp_path) as pipe:
        outer = _start_nested(tmp_path)
        wait_until(lambda: is_ready(outer), children=[outer], timeout_s=LONG_S)
        stop_children([outer], grace_s=OUTER_GRACE_S)
        assert _read(pipe) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from acfnet_core.processes import start_child;"
        "start_child('inner', [sys.executable, '-c',"
        " f'import time; open({sys.argv[1]!r}, \"w\"); time.sleep(60)'],"
        " log_file=Path(sys.argv[2])); time.sleep(60)"
    )
    with _pipe(tmp_path) as pipe:
        arguments = [str(tmp_path / "pipe"), str(tmp_path / "inner.log")]
        outer = start_child(
            "outer",
            [sys.executable, "-c", script, *arguments],
            log_file=tmp_path / "outer.log",
        )
        while len(processes_naming(str(tmp_path / "inner.log"))) < 1:
            check_alive([outer])
        while not processes_naming(f"open('{tmp_path / 'pipe'}'"):
            check_alive([outer])
        outer.process.kill()
        outer.process.wait()
        deadline = monotonic() + LONG_S
        while processes_naming(f"open('{tmp_path / 'pipe'}'"):
            assert monotonic() < deadline, "the child outlived its parent"
        os.set_blocking(pipe, False)


def test_a_second_ctrl_c_does_not_break_off_the_ending(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start("trap '' TERM; sleep 60")

    def press_again(seconds: float) -> None:
        del seconds
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(processes, "sleep", press_again)
    stop_children([child], grace_s=0.2)
    assert child.has_ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
