"""Making a run, following it, stopping it and letting it go on.

The rounds are done by the server (run_keeper.py); nothing here has to stay.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from acf_server.control import Control, is_healthy
from acf_server.coordinator import Coordinator
from acf_server.run_config import RunConfig, resolve_plan
from acf_server.run_events import (
    RunEvent,
    RunFailed,
    RunStopped,
    append_event,
    end_of_events,
    follow_events,
)
from acf_server.run_files import (
    RUN_FILE,
    RunRecord,
    RunStatus,
    end_run,
    read_run,
    reopen_run,
)
from acf_server.run_keeper import stop_flower_run
from acf_server.run_writing import refuse_second_run, write_run
from acf_server.superlink import flower_server, require_running
from acfnet_core.cohort.contract import load_contract
from acfnet_core.errors import ConfigError, MachineError, restore_error

ASK_SERVER_S = 5.0
SERVER_AWAY_S = 60.0
"""How long a follower waits for a server that may be starting again."""


def create_run(coordinator: Coordinator, config: RunConfig) -> Path:
    """Resolve a run and write its folder, with the initial model as round 0.

    Raises:
        ConfigError: A section has faults, or a run of this name exists
            (`config.run_exists`).
        IdentityError: A site is not registered, or not approved yet.
        MachineError: The server is not running.
    """
    run = config.run
    contract = load_contract(coordinator.contract_path)
    public_keys = _public_keys(coordinator, run.sites)
    plan = resolve_plan(config, contract, public_keys)
    run_folder = coordinator.runs_folder / run.name
    refuse_second_run(run_folder)
    # Nothing is written for a run that cannot begin: its name stays free.
    require_running(coordinator)
    write_run(run_folder, config, plan, contract)
    return run_folder


def follow_run(
    coordinator: Coordinator,
    run_folder: Path,
    *,
    check_alive: Callable[[], None] = lambda: None,
    start_at: int = 0,
) -> Iterator[RunEvent]:
    """Yield a run's events until it has ended; the server does the work.

    Who stops following stops nothing.

    Args:
        coordinator: The coordinator's folder.
        run_folder: From `create_run`.
        check_alive: Called while nothing happens; raises when there is no use waiting.
        start_at: From `end_of_events`, to leave out what was before.

    Raises:
        MachineError: The server has not answered for `SERVER_AWAY_S`.
    """
    server = flower_server(coordinator)
    last_answer = last_asked = monotonic()

    def check() -> None:
        nonlocal last_answer, last_asked
        check_alive()
        now = monotonic()
        if now - last_asked < ASK_SERVER_S:
            return
        last_asked = now
        if is_healthy(server):
            last_answer = now
        elif now - last_answer > SERVER_AWAY_S:
            raise MachineError(
                "machine.server_not_running",
                "The server does not answer; the run stands still, nothing is lost.",
                remedy="Start it: acf-server start. The run then goes on by itself; "
                f"see it with: acf-server run watch {run_folder.name}",
            )

    yield from follow_events(run_folder, check_alive=check, start_at=start_at)


def stop_run(coordinator: Coordinator, run_folder: Path) -> None:
    """Stop a run; what a site computes at this moment is not interrupted.

    Raises:
        ConfigError: `config.run_state`: it is not running.
        MachineError: The server is not running.
    """
    _require_status(run_folder, "running")
    with Control(flower_server(coordinator)) as control:
        end_run(run_folder, "stopped")
        stop_flower_run(control, run_folder)
    append_event(run_folder, RunStopped())
    coordinator.audit.append("run_stopped", run=run_folder.name)


def resume_run(coordinator: Coordinator, run_folder: Path) -> int:
    """Let a run that was stopped or failed go on after its last complete round.

    Returns:
        Where its further events begin.

    Raises:
        ConfigError: `config.run_state`: it is running, or has finished.
        MachineError: The server is not running.
    """
    _require_status(run_folder, "stopped", "failed")
    require_running(coordinator)
    start_at = end_of_events(run_folder)
    reopen_run(run_folder)
    coordinator.audit.append("run_resumed", run=run_folder.name)
    return start_at


def require_finished(last: RunEvent | None) -> None:
    """Raise if the last event of a run says that it failed.

    Raises:
        AcfnetError: The error that ended the run.
    """
    if isinstance(last, RunFailed):
        raise restore_error(last.code, last.message, remedy=last.remedy)


def find_run(coordinator: Coordinator, name: str) -> Path:
    """Return a run's folder by its name.

    Raises:
        ConfigError: `config.run_not_found`, with the names that there are.
    """
    run_folder = coordinator.runs_folder / name
    if (run_folder / RUN_FILE).is_file():
        return run_folder
    names = sorted(path.parent.name for path in _run_files(coordinator))
    raise ConfigError(
        "config.run_not_found",
        f"There is no run {name!r}; there are: {', '.join(names) or 'none'}.",
        remedy="Give one of these names, or start a run with `acf-server run start`.",
    )


def list_runs(coordinator: Coordinator) -> list[RunRecord]:
    """Return the records of all runs, oldest first."""
    records = [read_run(path.parent) for path in _run_files(coordinator)]
    return sorted(records, key=lambda record: record.started_utc)


def _require_status(run_folder: Path, *allowed: RunStatus) -> None:
    status = read_run(run_folder).status
    if status in allowed:
        return
    raise ConfigError(
        "config.run_state",
        f"The run {run_folder.name!r} is {status}; this needs one that is "
        f"{' or '.join(allowed)}.",
        remedy=f"See its state with: acf-server run show {run_folder.name}",
    )


def _run_files(coordinator: Coordinator) -> Iterator[Path]:
    return coordinator.runs_folder.glob(f"*/{RUN_FILE}")


def _public_keys(coordinator: Coordinator, names: tuple[str, ...]) -> dict[str, str]:
    keys = {}
    for name in names:
        site = coordinator.registry.find(name)
        site.load_key()
        keys[name] = site.public_key or ""
    return keys
