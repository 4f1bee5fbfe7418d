"""Starting a run and following it to its end."""

import contextlib
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from acf_server.control import Control
from acf_server.coordinator import Coordinator
from acf_server.run_config import RunConfig, resolve_plan
from acf_server.run_events import RunEvent, RunFailed, RunFinished, follow_events
from acf_server.run_files import (
    CONTRACT_FILE,
    RUN_FILE,
    RunRecord,
    end_run,
    read_run,
    write_record,
)
from acf_server.run_plan import RunPlan, write_plan
from acf_server.superlink import flower_server, require_running
from acfnet_core import __version__
from acfnet_core.cohort.contract import DataContract, load_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import ConfigError, ProtocolError, restore_error
from acfnet_core.federation.bundle import bundle_folder
from acfnet_core.federation.checkpoint import save_checkpoint
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import build_model
from acfnet_core.model.parameter_counts import num_parameters
from acfnet_core.training.model_arrays import model_arrays

PACKAGES = ("flwr", "torch", "numpy", "pydicom", "highdicom", "SimpleITK")
"""Whose versions a report states, beside our own and Python's."""


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
    if run_folder.exists():
        raise ConfigError(
            "config.run_exists",
            f"{run_folder}: a run of the name {run.name!r} exists.",
            remedy="Give the new run another name in run.toml.",
        )
    # Nothing is written for a run that cannot begin: its name stays free.
    require_running(coordinator)
    make_folder(run_folder)
    write_atomically(run_folder / CONTRACT_FILE, contract_to_toml(contract).encode())
    model = build_model(AcfNetConfig.model_validate(plan.model), seed=run.seed)
    save_checkpoint(
        run_folder,
        model_arrays(model),
        run=run.name,
        round_number=0,
        contributors={},
    )
    write_plan(run_folder, plan)
    record = _record(config, plan, contract, num_parameters(model))
    write_record(run_folder / RUN_FILE, record)
    return run_folder


def start_run(
    coordinator: Coordinator,
    run_folder: Path,
    *,
    check_alive: Callable[[], None] = lambda: None,
) -> Iterator[RunEvent]:
    """Have Flower run the rounds of a run's folder; yield events until the end.

    Args:
        coordinator: The coordinator's folder; its server must be running.
        run_folder: From `create_run`.
        check_alive: Called while nothing happens; raises when the run cannot go on.

    Raises:
        MachineError: The server is not running.
        ProtocolError: Flower refused the run, or ended it.
    """
    name = run_folder.name
    with Control(flower_server(coordinator)) as control:
        try:
            flower_run = control.start_run(bundle_folder(), run_folder.resolve())
        except ProtocolError:
            end_run(run_folder, "failed")
            raise
        coordinator.audit.append("run_started", run=name)
        last: RunEvent | None = None

        def check() -> None:
            check_alive()
            control.check_run(flower_run)

        try:
            for event in follow_events(run_folder, check_alive=check):
                last = event
                yield event
        finally:
            if not isinstance(last, RunFinished | RunFailed):
                _abandon(control, flower_run, run_folder)
            completed = isinstance(last, RunFinished)
            coordinator.audit.append("run_ended", run=name, completed=completed)


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


def _abandon(control: Control, flower_run: int, run_folder: Path) -> None:
    """Stop a run whose follower goes away, and write that into its record."""
    # Flower refuses to stop what has ended; the reason that brought us here counts.
    with contextlib.suppress(ProtocolError):
        control.stop_run(flower_run)
    if read_run(run_folder).status == "running":
        end_run(run_folder, "stopped")


def _run_files(coordinator: Coordinator) -> Iterator[Path]:
    return coordinator.runs_folder.glob(f"*/{RUN_FILE}")


def _public_keys(coordinator: Coordinator, names: tuple[str, ...]) -> dict[str, str]:
    keys = {}
    for name in names:
        site = coordinator.registry.find(name)
        site.load_key()
        keys[name] = site.public_key or ""
    return keys


def _record(
    config: RunConfig, plan: RunPlan, contract: DataContract, num_parameters: int
) -> RunRecord:
    run = config.run
    return RunRecord(
        name=run.name,
        study=run.study,
        purpose=run.purpose,
        started_utc=datetime.now(UTC),
        finished_utc=None,
        status="running",
        rounds=run.rounds,
        seed=run.seed,
        model=plan.model,
        num_parameters=num_parameters,
        training={**plan.training, "loss": plan.loss},
        strategy=plan.strategy,
        contract_name=f"{contract.name} version {contract.version}",
        contract_sha256=plan.contract_sha256,
        features=list(contract.features),
        endpoint=contract.endpoint.name,
        minimum_cell=contract.minimum_cell,
        data_origin=run.data_origin,
        landmark_months=run.landmark_months,
        software={
            "acfnet": __version__,
            "Python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    )
