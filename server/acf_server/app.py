"""The Flower ServerApp: runs the rounds of one run folder, torch-free.

It may be killed at any moment. What it has completed lies in the run's folder, and the
server starts it again (run_keeper.py).
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from acf_server.exchange import FlowerExchange
from acf_server.readiness import check_readiness
from acf_server.round_loop import RoundLoop
from acf_server.run_events import (
    RunEvent,
    RunFailed,
    RunFinished,
    RunInterrupted,
    append_event,
)
from acf_server.run_files import RUN_LOCK, end_run, read_run
from acf_server.run_plan import RunPlan, read_plan
from acfnet_core.errors import AcfnetError, MachineError
from acfnet_core.federation.checkpoint import completed_rounds, load_checkpoint
from acfnet_core.federation.parameters import layout_of
from acfnet_core.federation.readiness import require_space
from acfnet_core.files import held_lock

logger = logging.getLogger(__name__)

RUN_FOLDER_KEY = "run-folder"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left; whatever ends the run is written down."""
    run_folder = Path(str(context.run_config[RUN_FOLDER_KEY]))
    # One at a time: an earlier one may live a moment longer than its server.
    with held_lock(run_folder / RUN_LOCK, what="this run"):
        _run(grid, run_folder)


def _run(grid: Grid, run_folder: Path) -> None:
    announce = _announcer(run_folder)
    started = monotonic()
    try:
        plan = read_plan(run_folder)
        _play(plan, grid, run_folder, announce)
    except MachineError as error:
        # A full disk or a lost folder may be mended: nothing that is done is lost.
        _interrupt(run_folder, error.code, error.message)
        raise
    except AcfnetError as error:
        end_run(run_folder, "failed")
        announce(RunFailed(code=error.code, message=error.message, remedy=error.remedy))
        raise
    except Exception as error:
        # The edge of the process: without this line the reason would stand in
        # Flower's log alone, and the person who waits would learn nothing.
        _interrupt(run_folder, *_reason_of(error, run_folder))
        raise
    end_run(run_folder, "finished")
    announce(RunFinished(rounds=plan.rounds, seconds=monotonic() - started))


def _play(
    plan: RunPlan, grid: Grid, run_folder: Path, announce: Callable[[RunEvent], None]
) -> None:
    exchange = FlowerExchange(
        grid=grid,
        sites=[site.name for site in plan.sites],
        minimum_sites=plan.minimum_sites,
        timeout_s=plan.round_timeout_s,
        announce=announce,
    )
    if completed_rounds(run_folder) == [0]:
        num_values = layout_of(load_checkpoint(run_folder, 0)[0]).num_values
        check_readiness(plan, exchange, announce, num_values=num_values)
    RoundLoop(plan, run_folder, exchange, announce).run()


def _reason_of(error: Exception, run_folder: Path) -> tuple[str, str]:
    """Return a code and what it means here: Flower does not say that a disk is full."""
    try:
        require_space(run_folder)
    except MachineError as full:
        return full.code, full.message
    reason = f"The server met an unexpected error: {type(error).__name__}."
    return "protocol.run_failed", reason


def _interrupt(run_folder: Path, code: str, message: str) -> None:
    """Say why the run breaks off, unless a person has stopped it."""
    # The disk that is full, or the folder that is gone, may be this one.
    with contextlib.suppress(AcfnetError):
        if read_run(run_folder).status == "running":
            append_event(run_folder, RunInterrupted(code=code, message=message))


def _announcer(run_folder: Path) -> Callable[[RunEvent], None]:
    def announce(event: RunEvent) -> None:
        logger.info("%s", event.model_dump_json())
        append_event(run_folder, event)

    return announce
