"""Writing the folder of a new run: contract, first model, plan and record."""

import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from acf_server.run_config import RunConfig
from acf_server.run_files import CONTRACT_FILE, RUN_FILE, RunRecord, write_record
from acf_server.run_plan import RunPlan, write_plan
from acfnet_core import __version__
from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import ConfigError
from acfnet_core.federation.checkpoint import save_checkpoint
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import build_model
from acfnet_core.model.parameter_counts import num_parameters
from acfnet_core.training.model_arrays import model_arrays

PACKAGES = ("flwr", "torch", "numpy", "pydicom", "highdicom", "SimpleITK")
"""Whose versions a report states, beside our own and Python's."""


def refuse_second_run(run_folder: Path) -> None:
    """Refuse the name of a run that there is.

    Raises:
        ConfigError: `config.run_exists`.
    """
    if run_folder.exists():
        raise ConfigError(
            "config.run_exists",
            f"{run_folder}: a run of the name {run_folder.name!r} exists.",
            remedy="Give the new run another name in run.toml.",
        )


def write_run(
    run_folder: Path, config: RunConfig, plan: RunPlan, contract: DataContract
) -> None:
    """Write a new run's folder, with the initial model as round 0.

    Args:
        run_folder: A new folder.
        config: What was asked for.
        plan: What it was resolved to.
        contract: The run's.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    make_folder(run_folder)
    write_atomically(run_folder / CONTRACT_FILE, contract_to_toml(contract).encode())
    model = build_model(AcfNetConfig.model_validate(plan.model), seed=plan.seed)
    save_checkpoint(
        run_folder,
        model_arrays(model),
        run=plan.run,
        round_number=0,
        contributors={},
    )
    write_plan(run_folder, plan)
    record = _record(config, plan, contract, num_parameters(model))
    write_record(run_folder / RUN_FILE, record)


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
        updates=plan.updates,
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
