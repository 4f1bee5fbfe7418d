"""Keeping the coordinator's runs going, whatever dies in between.

The server does this while it runs: a run whose record says that it is running, and that
no ServerApp works on, is given to Flower. That starts a new run, and takes one up again
that was cut off: by a killed process, a full disk, or a restart of the whole machine.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from acf_server.control import Control
from acf_server.coordinator import Coordinator
from acf_server.run_events import RunFailed, RunInterrupted, append_event
from acf_server.run_files import (
    FLOWER_RUN_FILE,
    RUN_FILE,
    RUN_LOCK,
    end_run,
    read_run,
)
from acf_server.superlink import flower_server
from acfnet_core.errors import AcfnetError, MachineError, ProtocolError
from acfnet_core.federation.bundle import bundle_folder
from acfnet_core.federation.checkpoint import completed_rounds
from acfnet_core.federation.readiness import require_space
from acfnet_core.files import is_held, write_atomically

START_GRACE_S = 45.0
"""How long Flower may take to start a ServerApp."""
LOOK_AGAIN_S = 2.0
"""How often Flower is asked whether a run that it was given has died."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
MAX_ATTEMPTS = 10
"""Attempts without a further round after which a run is given up."""


@dataclass
class _Attempt:
    """What was tried with one run.

    Attributes:
        num_rounds: Complete rounds when it was last given to Flower.
        num_vain: Times in a row that it was given without a further round.
        flower_run: Flower's id of it, while we wait for its ServerApp or for its end.
        was_full: Whether it waits for space on the disk.
    """

    num_rounds: int = -1
    num_vain: int = 0
    flower_run: int | None = None
    given: float = 0.0
    looked: float = 0.0
    due: float = 0.0
    was_full: bool = False


class RunKeeper:
    """Gives runs to Flower until they have ended.

    Args:
        coordinator: The coordinator's folder; its server must be running.
        tell: Takes a line for the coordinator.
    """

    def __init__(
        self, coordinator: Coordinator, *, tell: Callable[[str], None]
    ) -> None:
        self._coordinator = coordinator
        self._tell = tell
        self._attempts: dict[Path, _Attempt] = {}
        self._seen: dict[Path, int] = {}
        self._told: dict[Path, str] = {}

    def tend(self) -> None:
        """Look after every run once; an error of one of them is told, not raised."""
        for path in sorted(self._coordinator.runs_folder.glob(f"*/{RUN_FILE}")):
            folder = path.parent
            try:
                self._tend_run(folder)
            except (AcfnetError, OSError) as error:
                self._tell_once(folder, f"Run {folder.name}: {error}")
                self._pause(self._attempts.setdefault(folder, _Attempt()))

    def _tell_once(self, folder: Path, line: str) -> None:
        if self._told.get(folder) != line:
            self._tell(line)
        self._told[folder] = line

    def _tend_run(self, folder: Path) -> None:
        if not self._is_running(folder):
            if self._attempts.pop(folder, None) is not None:
                status = read_run(folder).status
                self._coordinator.audit.append(
                    "run_ended", run=folder.name, status=status
                )
            return
        attempt = self._attempts.setdefault(folder, _Attempt())
        if is_held(folder / RUN_LOCK):
            attempt.given = 0.0
            return
        if monotonic() < attempt.due or self._is_starting(attempt):
            return
        self._wait_for_space(folder, attempt)
        self._told.pop(folder, None)
        num_rounds = len(completed_rounds(folder))
        attempt.num_vain = (
            attempt.num_vain + 1 if num_rounds == attempt.num_rounds else 0
        )
        attempt.num_rounds = num_rounds
        if attempt.num_vain > MAX_ATTEMPTS:
            self._give_up(folder)
            return
        self._give_to_flower(folder, attempt)
        self._pause(attempt)

    def _wait_for_space(self, folder: Path, attempt: _Attempt) -> None:
        """Refuse a full disk; write down that it was, once that can be written."""
        try:
            require_space(folder)
        except MachineError:
            attempt.was_full = True
            raise
        if attempt.was_full:
            reason = "The disk was full; there is space again."
            event = RunInterrupted(code="machine.disk_full", message=reason)
            append_event(folder, event)
            self._tell(f"Run {folder.name}: {reason}")
            attempt.was_full = False

    def _is_running(self, folder: Path) -> bool:
        """Tell whether the run's record says so; it is read when it has changed."""
        path = folder / RUN_FILE
        changed = path.stat().st_mtime_ns
        if self._seen.get(folder) == changed:
            return False
        if read_run(folder).status == "running":
            return True
        self._seen[folder] = changed
        return False

    def _is_starting(self, attempt: _Attempt) -> bool:
        """Tell whether Flower has yet to start what it was given."""
        now = monotonic()
        if not attempt.given or attempt.flower_run is None:
            return False
        if now - attempt.given > START_GRACE_S:
            return False
        if now - attempt.looked > LOOK_AGAIN_S:
            attempt.looked = now
            with Control(flower_server(self._coordinator)) as control:
                return not control.has_ended(attempt.flower_run)
        return True

    def _give_to_flower(self, folder: Path, attempt: _Attempt) -> None:
        with Control(flower_server(self._coordinator)) as control:
            stop_flower_run(control, folder)
            attempt.flower_run = control.start_run(bundle_folder(), folder.resolve())
        write_atomically(folder / FLOWER_RUN_FILE, str(attempt.flower_run).encode())
        attempt.given = attempt.looked = monotonic()
        done = attempt.num_rounds - 1
        self._coordinator.audit.append(
            "run_given_to_flower", run=folder.name, round=done
        )
        if done > 0:
            self._tell(f"Run {folder.name} is taken up again after round {done}.")

    def _give_up(self, folder: Path) -> None:
        end_run(folder, "failed")
        append_event(
            folder,
            RunFailed(
                code="protocol.run_failed",
                message=f"The run broke off {MAX_ATTEMPTS} times without a further "
                "round.",
                remedy="Look at logs/superexec.log in the coordinator's folder; then: "
                f"acf-server run resume {folder.name}",
            ),
        )

    @staticmethod
    def _pause(attempt: _Attempt) -> None:
        pause_s = min(FIRST_PAUSE_S * 2**attempt.num_vain, LONGEST_PAUSE_S)
        attempt.due = monotonic() + pause_s


def stop_flower_run(control: Control, folder: Path) -> None:
    """Stop what Flower may still have of a run; one that has ended is left alone."""
    try:
        flower_run = int((folder / FLOWER_RUN_FILE).read_text())
    except (OSError, ValueError):
        return
    with suppress(ProtocolError, MachineError):
        control.stop_run(flower_run)
