import shutil
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from acfnet_core import supervision
from acfnet_core.errors import MachineError
from acfnet_core.processes import Child, start_child
from acfnet_core.supervision import MAX_FAILURES, Supervisor

SHELL = shutil.which("sh") or "/bin/sh"


class Shell:
    """A service that runs shell text, and counts how often it was started."""

    def __init__(self, text: str, folder: Path) -> None:
        self.text, self.folder, self.num_starts = text, folder, 0

    def __call__(self) -> Child:
        self.num_starts += 1
        return start_child(
            "the service", [SHELL, "-c", self.text], log_file=self.folder / "log"
        )


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervisor(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(supervision, "LONGEST_PAUSE_S", 0.002)
    made = Supervisor(tell=told.append)
    yield made
    made.stop()


def tend_until_started(supervisor: Supervisor, shell: Shell, times: int) -> None:
    while shell.num_starts < times:
        supervisor.tend()
        sleep(0.002)


def test_what_is_killed_is_started_again(
    supervisor: Supervisor, told: list[str], tmp_path: Path
) -> None:
    shell = Shell("sleep 60", tmp_path)
    first = supervisor.add(shell)
    first.process.kill()
    first.process.wait()
    tend_until_started(supervisor, shell, 2)
    assert not supervisor.children[0].has_ended
    assert supervisor.children[0].process.pid != first.process.pid
    assert "ended with status -9; it is started again" in told[0]


def test_what_runs_is_left_alone(
    supervisor: Supervisor, told: list[str], tmp_path: Path
) -> None:
    shell = Shell("sleep 60", tmp_path)
    supervisor.add(shell)
    for _ in range(5):
        supervisor.tend()
    assert (shell.num_starts, told) == (1, [])


def test_what_never_runs_ends_the_program_with_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    shell = Shell("exit 7", tmp_path)
    supervisor.add(shell)
    with pytest.raises(MachineError, match="the service ended with status 7") as caught:
        tend_until_started(supervisor, shell, MAX_FAILURES + 2)
    assert caught.value.code == "machine.process_died"
    assert str(tmp_path / "log") in caught.value.remedy
    assert shell.num_starts == MAX_FAILURES + 1


def test_who_has_run_long_begins_anew(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STEADY_S", -1.0)
    shell = Shell("exit 7", tmp_path)
    supervisor.add(shell)
    tend_until_started(supervisor, shell, MAX_FAILURES + 5)
    assert supervisor.services[0].num_failures == 1


def test_the_pause_grows_while_it_keeps_ending(
    told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "monotonic", iter(range(0, 10_000, 40)).__next__)
    supervisor = Supervisor(tell=told.append)
    shell = Shell("exit 7", tmp_path)
    supervisor.add(shell).process.wait()
    while shell.num_starts < 6:
        supervisor.tend()
        supervisor.children[0].process.wait()
    pauses = [line.partition("again in ")[2].partition(" s")[0] for line in told]
    assert pauses == ["1", "2", "4", "8", "16"]
