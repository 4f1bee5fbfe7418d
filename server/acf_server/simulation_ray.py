"""A simulated run with Flower's simulation engine, which needs Ray.

The rounds are those of the ServerApp (app.py), message by message; the sites answer in
Ray's workers with the app and the trainer of a real site. Flower takes that app by the
name under which it is installed, as it does from a bundle, so nothing of it is imported
here. A simulated node has no name: each is asked once which site it is.
"""

import logging
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, cast

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from acf_server.app import RUN_FOLDER_KEY, main
from acf_server.run_events import RunEvent, RunFailed, follow_events, read_events
from acf_server.run_files import end_run, read_run
from acf_server.simulation_data import SimulatedData
from acfnet_core.errors import MachineError, ProtocolError, restore_error
from acfnet_core.federation.simulated_sites import (
    CLIENT_APP,
    SITE_NAME,
    SITE_QUERY,
    SITE_RECORD,
    simulated_environment,
)

RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers compute on the CPU, where the bits are those of one process.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What keeps Ray from calling home, and from a warning about GPUs."""
FIRST_ANSWER_S = 120.0
"""How long the workers may take to start."""
_LAST_EVENT_S = 2.0


def require_ray() -> None:
    """Refuse to begin without Ray.

    Raises:
        MachineError: `machine.program_missing`.
    """
    if find_spec("ray") is None:
        raise MachineError(
            "machine.program_missing",
            "Ray, which Flower's simulation engine needs, is not installed.",
            remedy="Install it: pip install 'acfnet[simulation]'; or leave --engine "
            "out: the sites are then simulated in one process.",
        )


def play_with_ray(
    data: SimulatedData,
    run_folder: Path,
    *,
    num_workers: int,
    notify: Callable[[RunEvent], None],
) -> None:
    """Run all rounds with Flower's simulation engine.

    Args:
        data: The sites' patients.
        run_folder: From `write_run`.
        num_workers: Sites that train at a time, each in a process of one thread.
        notify: Takes each event; called from another thread.

    Raises:
        AcfnetError: What ended the run.
    """
    from flwr.simulation import run_simulation

    os.environ.update(RAY_VARIABLES)
    server_app = ServerApp()

    @server_app.main()
    def run(grid: Grid, context: Context) -> None:
        context.run_config[RUN_FOLDER_KEY] = str(run_folder)
        main(cast(Grid, NamedNodes(grid)), context)

    logging.getLogger("flwr").setLevel(logging.ERROR)
    try:
        # What Flower makes of an error says less than what the run has written down.
        with (
            _sites_named(data),
            _followed(run_folder, notify),
            suppress(RuntimeError),
        ):
            run_simulation(
                server_app=server_app,
                client_app=pkgutil.resolve_name(CLIENT_APP),
                num_supernodes=len(data.sites),
                backend_config={
                    "init_args": {"num_cpus": num_workers, "log_to_driver": False},
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
    finally:
        # Its processes keep the variables that they were started with.
        import_module("ray").shutdown()
        _end_what_runs(run_folder)
    require_finished(run_folder)


class NamedNodes:
    """Flower's grid, whose nodes bear the names of the sites that they play."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        """Leave all else as it is."""
        return getattr(self._grid, name)

    def get_nodes(self) -> Iterable[Any]:
        """Return the nodes; those that have not been asked before are asked."""
        nodes = list(self._grid.get_nodes())
        new = [node.node_id for node in nodes if node.node_id not in self._names]
        if new:
            self._names |= self._ask(new)
        for node in nodes:
            node.name = self._names.get(node.node_id, "")
        return nodes

    def _ask(self, node_ids: list[int]) -> dict[int, str]:
        questions = [
            Message(content=RecordDict(), dst_node_id=node_id, message_type=SITE_QUERY)
            for node_id in node_ids
        ]
        answers = self._grid.send_and_receive(questions, timeout=FIRST_ANSWER_S)
        return {
            answer.metadata.src_node_id: str(
                answer.content.config_records[SITE_RECORD][SITE_NAME]
            )
            for answer in answers
            if answer.has_content()
        }


@contextmanager
def _sites_named(data: SimulatedData) -> Iterator[None]:
    """Tell the workers, which inherit the environment, where the sites lie."""
    # The system allows a socket's path a hundred bytes, so it is not in the output.
    with TemporaryDirectory(prefix="acfnet-") as sockets:
        folders = [site.folder for site in data.sites]
        os.environ.update(simulated_environment(folders, Path(sockets)))
        yield


@contextmanager
def _followed(run_folder: Path, notify: Callable[[RunEvent], None]) -> Iterator[None]:
    """Tell the run's events while the block works."""
    is_over = Event()

    def check_alive() -> None:
        if is_over.is_set():
            raise SystemExit  # Ends this thread alone.

    def follow() -> None:
        for event in follow_events(run_folder, check_alive=check_alive):
            notify(event)

    follower = Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        is_over.set()
        follower.join(_LAST_EVENT_S)


def _end_what_runs(run_folder: Path) -> None:
    """Note that nobody takes the run up again, whatever has ended the engine."""
    if read_run(run_folder).status == "running":
        end_run(run_folder, "failed")


def require_finished(run_folder: Path) -> None:
    """Raise what ended the run, unless it has finished.

    Raises:
        AcfnetError: What the run has written down, or `protocol.run_failed`.
    """
    if read_run(run_folder).status == "finished":
        return
    for event in reversed(read_events(run_folder)):
        if isinstance(event, RunFailed):
            raise restore_error(event.code, event.message, remedy=event.remedy)
    raise ProtocolError(
        "protocol.run_failed",
        "Flower's simulation engine ended the run before its last round.",
        remedy="Repeat it under another name with --engine in-process, which tells "
        "more of the reason.",
    )
