"""acfnet's rounds: the programs of a real consortium, without training.

The coordinator is `acf-server init`, `start` and `run start`, the enrolment is that of
two files, the server's app, its round loop, admission, aggregation and checkpoints are
the product's. A site is what `acf-client start` runs; its trainer is the real program
with its patients and its training replaced (ours_trainer.py).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from round_peers.measurement import Task
from round_peers.process_watch import SERVER
from round_peers.round_clock import RoundClock
from round_peers.sixty_tensors import sixty_tensors
from round_peers.stand_ins import put_in_place

from acf_server import run_writing
from acf_server.coordinator import Coordinator, initialise
from acf_server.enrolment import approve_site, invite_site
from acf_server.run_config import RunConfig, RunSection
from acf_server.run_events import EVENTS_FILE
from acf_server.runs import create_run, follow_run, require_finished
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.processes import (
    OUTER_GRACE_S,
    Child,
    check_alive,
    is_ready,
    start_child,
    stop_children,
    wait_until,
)
from acfnet_core.training.settings import LocalTrainingSettings

RUN = "rounds"
READY_TIMEOUT_S = 240.0
ROUND_TIMEOUT_S = 600.0
_SITE_PROGRAM = Path(__file__).with_name("ours_site.py")


def play(task: Task) -> list[float]:
    """Play a consortium; return when each of its rounds ended."""
    coordinator = initialise(
        task.folder / "coordinator",
        consortium=RUN,
        address=f"127.0.0.1:{task.relay_port}",
        contract_text=contract_to_toml(shipped_contract("crlm")),
        port=task.server_port,
    )
    for site in task.sites:
        _enrol(coordinator, site, task)
    with _running(coordinator, task) as children:
        run_folder = _create_run(coordinator, task)
        with RoundClock(run_folder / EVENTS_FILE) as clock:
            last = None
            for event in follow_run(
                coordinator, run_folder, check_alive=lambda: check_alive(children)
            ):
                last = event
        require_finished(last)
    return clock.round_ends(task.num_rounds)


def _enrol(coordinator: Coordinator, site: str, task: Task) -> None:
    """Invite, request, approve and admit a site: its steps are its own commands."""
    table, folder = task.folder / "clinical.csv", _site_folder(task, site)
    table.write_text("patient_id\n")
    _client("init", str(folder), "--clinical", str(table))
    here = ("--folder", str(folder))
    asked = _client("enroll", "-", *here, typed=invite_site(coordinator, site))
    admission = task.folder / f"{site}-admission.json"
    approve_site(
        coordinator, site, Path(asked["request"]), asked["fingerprint"], admission
    )
    _client("enroll", "--admission", str(admission), *here)


def _client(*arguments: str, typed: str = "") -> dict[str, str]:
    """Run an `acf-client` command and return its JSON."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "acf_client", *arguments, "--json"],
        input=typed,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _site_folder(task: Task, site: str) -> Path:
    return task.folder / "sites" / site


@contextmanager
def _running(coordinator: Coordinator, task: Task) -> Iterator[list[Child]]:
    """Run the server and then the sites."""
    children: list[Child] = []
    try:
        server = [sys.executable, "-m", "acf_server", "start"]
        children.append(
            start_child(
                "acf-server start",
                [*server, "--folder", str(coordinator.folder)],
                log_file=coordinator.logs_folder / "start.log",
                environment=task.role(SERVER),
            )
        )
        _wait(children)
        children.extend(
            start_child(
                site,
                [sys.executable, str(_SITE_PROGRAM), str(_site_folder(task, site))],
                log_file=_site_folder(task, site) / "logs" / "start.log",
                environment=task.role(site),
            )
            for site in task.sites
        )
        _wait(children)
        yield children
    finally:
        stop_children(children, grace_s=OUTER_GRACE_S)


def _wait(children: list[Child]) -> None:
    wait_until(
        lambda: all(is_ready(child) for child in children),
        children=children,
        timeout_s=READY_TIMEOUT_S,
    )


def _create_run(coordinator: Coordinator, task: Task) -> Path:
    """Create a run whose first model is one of the wanted size.

    Which names and shapes a model has is nothing to the server.
    """
    config = RunConfig(
        run=RunSection(
            name=RUN,
            study="What a round costs",
            sites=tuple(task.sites),
            rounds=task.num_rounds,
            data_origin="synthetic",
            round_timeout_s=ROUND_TIMEOUT_S,
        ),
        model={"size": "tiny"},
        training=LocalTrainingSettings(local_epochs=1),
    )
    put_in_place(run_writing, "model_arrays", lambda _: sixty_tensors(task.mb))
    return create_run(coordinator, config)
