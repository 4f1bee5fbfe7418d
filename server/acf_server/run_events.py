"""What happens in a run, as it happens: a file of JSON lines that others follow.

The ServerApp runs in a process of Flower's. It appends to `events.jsonl`; the command
that started the run, and any other that watches it, reads along.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from acfnet_core.config import Section

EVENTS_FILE = "events.jsonl"
_POLL_S = 0.2


class WaitingForSites(Section):
    """The run waits until enough of its sites are connected."""

    kind: Literal["waiting_for_sites"] = "waiting_for_sites"
    missing: tuple[str, ...]


class RoundStarted(Section):
    """The global model was sent out; round `num_rounds` + 1 only judges it."""

    kind: Literal["round_started"] = "round_started"
    round: int
    num_rounds: int
    sites: tuple[str, ...]


class SiteAnswered(Section):
    """A site's reply was admitted."""

    kind: Literal["site_answered"] = "site_answered"
    round: int
    site: str
    seconds: float


class SiteFailed(Section):
    """A site did not answer in time, failed, or was refused."""

    kind: Literal["site_failed"] = "site_failed"
    round: int
    site: str
    code: str
    seconds: float


class ModelJudged(Section):
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


class RunFinished(Section):
    """All rounds are done."""

    kind: Literal["run_finished"] = "run_finished"
    rounds: int
    seconds: float


class RunFailed(Section):
    """The run ended early."""

    kind: Literal["run_failed"] = "run_failed"
    code: str
    message: str
    remedy: str


RunEvent = Annotated[
    WaitingForSites
    | RoundStarted
    | SiteAnswered
    | SiteFailed
    | ModelJudged
    | RunFinished
    | RunFailed,
    Field(discriminator="kind"),
]
_READER: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


def append_event(run_folder: Path, event: RunEvent) -> None:
    """Append one event to the run's file."""
    with (run_folder / EVENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(event.model_dump_json() + "\n")


def follow_events(
    run_folder: Path, *, check_alive: Callable[[], None]
) -> Iterator[RunEvent]:
    """Yield a run's events as they are written, until it has finished or failed.

    Args:
        run_folder: The run's folder.
        check_alive: Called while nothing happens; raises when the run cannot go on.
    """
    path = run_folder / EVENTS_FILE
    path.touch()
    with path.open(encoding="utf-8") as file:
        pending = ""
        while True:
            pending += file.readline()
            if not pending.endswith("\n"):
                check_alive()
                sleep(_POLL_S)
                continue
            event = _READER.validate_json(pending)
            pending = ""
            yield event
            if isinstance(event, RunFinished | RunFailed):
                return
