"""The Flower ServerApp: runs the rounds of one run folder, torch-free."""

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from acf_server.exchange import FlowerExchange
from acf_server.round_loop import RoundLoop
from acf_server.run_events import RunEvent, RunFailed, RunFinished, append_event
from acf_server.run_files import end_run
from acf_server.run_plan import read_plan
from acfnet_core.errors import AcfnetError

logger = logging.getLogger(__name__)

RUN_FOLDER_KEY = "run-folder"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds; whatever ends the run is written where people will look."""
    run_folder = Path(str(context.run_config[RUN_FOLDER_KEY]))
    announce = _announcer(run_folder)
    started = monotonic()
    try:
        plan = read_plan(run_folder)
        exchange = FlowerExchange(
            grid=grid,
            sites=[site.name for site in plan.sites],
            minimum_sites=plan.minimum_sites,
            timeout_s=plan.round_timeout_s,
            announce=announce,
        )
        RoundLoop(plan, run_folder, exchange, announce).run()
    except AcfnetError as error:
        end_run(run_folder, "failed")
        announce(RunFailed(code=error.code, message=error.message, remedy=error.remedy))
        raise
    except Exception as error:
        # The edge of the process: without this line the reason would stand in
        # Flower's log alone, and the person who waits would learn nothing.
        end_run(run_folder, "failed")
        announce(
            RunFailed(
                code="protocol.run_failed",
                message=f"The server met an unexpected error: {type(error).__name__}.",
                remedy="Look at logs/superexec.log in the coordinator's folder.",
            )
        )
        raise
    end_run(run_folder, "finished")
    announce(RunFinished(rounds=plan.rounds, seconds=monotonic() - started))


def _announcer(run_folder: Path) -> Callable[[RunEvent], None]:
    def announce(event: RunEvent) -> None:
        logger.info("%s", event.model_dump_json())
        append_event(run_folder, event)

    return announce
