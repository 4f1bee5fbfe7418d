"""What happens in a run, as it happens: a file of JSON lines that others follow.

The ServerApp runs in a process of Flower's. It appends to `events.jsonl`; the command
that started the run, and any other that watches it, reads along.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Annotated, BinaryIO, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from acf_server.run_files import RoundPhases
from acfnet_core.config import Section
from acfnet_core.files import describe_os_error

EVENTS_FILE = "events.jsonl"
_POLL_S = 0.2


class _Event(Section):
    """What every event has."""

    at_utc: AwareDatetime | None = None
    """When it was written; null in files from before events told it."""


class WaitingForSites(_Event):
    """Sites are not connected; none is missing any more when `missing` is empty."""

    kind: Literal["waiting_for_sites"] = "waiting_for_sites"
    missing: tuple[str, ...]


class SiteReadiness(Section):
    """What a site said of being ready; it is when there are no codes."""

    site: str
    codes: tuple[str, ...] = ()
    version: str | None = None
    device: str | None = None
    free_disk_gib: float | None = None
    free_memory_gib: float | None = None


class ReadinessChecked(_Event):
    """Every site was asked before the first round whether it is ready."""

    kind: Literal["readiness_checked"] = "readiness_checked"
    sites: tuple[SiteReadiness, ...]


class RoundStarted(_Event):
    """The global model was sent out; round `num_rounds` + 1 only judges it."""

    kind: Literal["round_started"] = "round_started"
    round: int
    num_rounds: int
    sites: tuple[str, ...]


class SiteAnswered(_Event):
    """A site's reply was admitted."""

    kind: Literal["site_answered"] = "site_answered"
    round: int
    site: str
    seconds: float
    computing_seconds: float | None = None


class SiteFailed(_Event):
    """A site did not answer in time, failed, or was refused."""

    kind: Literal["site_failed"] = "site_failed"
    round: int
    site: str
    code: str
    seconds: float


class SiteAskedAgain(_Event):
    """A site failed in a way that may pass; it is asked again in the same round."""

    kind: Literal["site_asked_again"] = "site_asked_again"
    round: int
    site: str
    code: str
    pause_s: float


class RoundFinished(_Event):
    """The model after a round is on the disk: the round is complete."""

    kind: Literal["round_finished"] = "round_finished"
    round: int
    num_rounds: int
    phases: RoundPhases
    bytes_sent: int
    bytes_received: int


class RunResumed(_Event):
    """The run goes on after `round`, the last one that is complete."""

    kind: Literal["run_resumed"] = "run_resumed"
    round: int
    num_rounds: int


class RunInterrupted(_Event):
    """The run broke off; the server takes it up again from its last round."""

    kind: Literal["run_interrupted"] = "run_interrupted"
    code: str
    message: str


class RunStopped(_Event):
    """A person stopped the run."""

    kind: Literal["run_stopped"] = "run_stopped"


class ModelJudged(_Event):
    """How the global model after `round` does on the sites' own patients."""

    kind: Literal["model_judged"] = "model_judged"
    round: int
    num_rounds: int
    num_patients: int | None
    num_patients_c: int | None
    mean_loss: float | None
    mean_c: float | None
    worst_c: float | None
    worst_c_site: str | None


class RunFinished(_Event):
    """All rounds are done."""

    kind: Literal["run_finished"] = "run_finished"
    rounds: int
    seconds: float


class RunFailed(_Event):
    """The run ended early."""

    kind: Literal["run_failed"] = "run_failed"
    code: str
    message: str
    remedy: str


RunEvent = Annotated[
    WaitingForSites
    | ReadinessChecked
    | RoundStarted
    | SiteAnswered
    | SiteFailed
    | SiteAskedAgain
    | RoundFinished
    | ModelJudged
    | RunResumed
    | RunInterrupted
    | RunStopped
    | RunFinished
    | RunFailed,
    Field(discriminator="kind"),
]
_READER: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


LastEvent = RunStopped | RunFinished | RunFailed
"""Events after which there is none, unless the run is resumed."""


def append_event(run_folder: Path, event: RunEvent) -> RunEvent:
    """Append one event to the run's file; a torn line before it is closed first.

    Returns:
        The event as it was written, with its time.

    Raises:
        MachineError: The file cannot be written or the disk is full.
    """
    path = run_folder / EVENTS_FILE
    now = datetime.now(UTC).replace(microsecond=0)
    timed: RunEvent = event.model_copy(update={"at_utc": now})
    line = timed.model_dump_json() + "\n"
    try:
        with path.open("a+b") as file:
            if file.tell() and not _ends_with_line(file):
                line = "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise describe_os_error(error, path) from error
    return timed


def read_events(run_folder: Path, *, end_at: int | None = None) -> list[RunEvent]:
    """Return what has happened so far; a torn line is passed over.

    Args:
        run_folder: The run's folder.
        end_at: Byte of the file to stop at; None reads all of it.
    """
    path = run_folder / EVENTS_FILE
    if not path.is_file():
        return []
    lines = path.read_bytes()[:end_at].decode("utf-8", "replace").splitlines()
    return [event for line in lines if (event := _read_line(line)) is not None]


def follow_events(
    run_folder: Path, *, check_alive: Callable[[], None], start_at: int = 0
) -> Iterator[RunEvent]:
    """Yield a run's events as they are written, until it has ended.

    Args:
        run_folder: The run's folder.
        check_alive: Called while nothing happens; raises when there is no use waiting.
        start_at: Byte of the file to begin at: a run that is resumed has ended before.
    """
    path = run_folder / EVENTS_FILE
    path.touch()
    with path.open("rb") as file:
        file.seek(start_at)
        pending = b""
        while True:
            pending += file.readline()
            if not pending.endswith(b"\n"):
                check_alive()
                sleep(_POLL_S)
                continue
            event = _read_line(pending.decode("utf-8", "replace"))
            pending = b""
            if event is None:
                continue
            yield event
            if isinstance(event, LastEvent):
                return


def end_of_events(run_folder: Path) -> int:
    """Return where the next event will be written."""
    path = run_folder / EVENTS_FILE
    return path.stat().st_size if path.exists() else 0


def _ends_with_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _read_line(line: str) -> RunEvent | None:
    """Return a line's event; None for one that a crash has torn."""
    try:
        return _READER.validate_json(line)
    except ValidationError:
        return None
