"""Simulating a run on one machine: divide, train, compare.

The output folder is laid out like a coordinator's, without keys or sites, so that the
commands which read a run read a simulated one too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import torch
from pydantic import ValidationError

from acf_server.coordinator import SETTINGS_NAME, Coordinator, open_coordinator
from acf_server.in_process import InProcessExchange, LocalSite, play_run
from acf_server.run_config import RunConfig, RunSection, resolve_plan
from acf_server.run_events import RunEvent
from acf_server.run_files import write_record
from acf_server.run_plan import RunPlan
from acf_server.run_writing import refuse_second_run, write_run
from acf_server.simulation_data import (
    DividedTable,
    SimulatedCohorts,
    SimulatedData,
    divide_simulated,
)
from acf_server.simulation_judgement import Judgement, SimulationJudge
from acf_server.simulation_ray import play_with_ray, require_ray
from acf_server.simulation_result import (
    SIMULATION_FILE,
    Engine,
    SimulationResult,
    SplitName,
    reaches,
)
from acfnet_core.cohort.prepared.preparation_events import PreparationEvent
from acfnet_core.config import describe_faults
from acfnet_core.errors import ConfigError
from acfnet_core.evaluation.judge import DEFAULT_NUM_BOOTSTRAP
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.identity.keys import load_key

SIMULATED_FOLDER = "simulated"
PSEUDO_SITE = "pseudo-{}"
_SETTINGS = """\
# A simulation's folder: runs are read as in a coordinator's, and no site can join.
consortium = "simulation"
address = "localhost:443"
"""


def _ignore(event: object) -> None:
    del event


@dataclass(frozen=True, kw_only=True)
class Watchers:
    """Who is told what while a simulation runs."""

    preparing: Callable[[PreparationEvent], None] = _ignore
    running: Callable[[RunEvent], None] = _ignore
    comparing: Callable[[str], None] = _ignore


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is to be simulated.

    Attributes:
        config: The run; its sites are replaced where one table is divided.
        cohorts: The patients.
        folder: Of the output; may hold earlier simulations.
        engine: `in-process`: one site after the other, here. `ray`: Flower's simulation
            engine, with the apps that a server and a site run.
        num_workers: Sites that train at a time, with `ray`.
        device: Where to compute in this process.
        num_bootstrap: Resamples of each interval.
        compares: Whether a pooled model and each site's own are trained beside it.
    """

    config: RunConfig
    cohorts: SimulatedCohorts
    folder: Path
    engine: Engine = "in-process"
    num_workers: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    num_bootstrap: int = DEFAULT_NUM_BOOTSTRAP
    compares: bool = True


def simulate(simulation: Simulation, watchers: Watchers) -> SimulationResult:
    """Divide the patients, train over the sites, and judge beside what else there is.

    Args:
        simulation: What to simulate.
        watchers: Who is told of it.

    Raises:
        ConfigError: The run exists, names another number of sites than there are
            cohorts, or makes no global model.
        DataError: The patients cannot be used or are too few.
        MachineError: Ray is asked for and not installed, or the folder cannot be
            written.
        ProtocolError: Too few sites gave an update that could be used.
    """
    started = monotonic()
    config = _with_sites(simulation)
    if simulation.engine == "ray":
        require_ray()
    run = config.run
    coordinator = _open_folder(simulation.folder)
    run_folder = coordinator.runs_folder / run.name
    refuse_second_run(run_folder)
    data = divide_simulated(
        simulation.cohorts,
        simulation.folder / SIMULATED_FOLDER / run.name,
        site_names=run.sites,
        seed=run.seed,
        notify=watchers.preparing,
    )
    keys = {site.name: site.public_key_pem() for site in data.sites}
    plan = resolve_plan(config, data.contract, keys)
    write_run(run_folder, config, plan, data.contract)
    _play(simulation, plan, run_folder, data, watchers)
    judgement = SimulationJudge(
        plan=plan,
        run_folder=run_folder,
        data=data,
        device=simulation.device,
        tell=watchers.comparing,
        num_bootstrap=simulation.num_bootstrap,
        compares=simulation.compares,
    ).judge()
    result = _result(simulation, plan, run_folder, judgement, monotonic() - started)
    write_record(run_folder / SIMULATION_FILE, result)
    return result


def _with_sites(simulation: Simulation) -> RunConfig:
    """Return the run with the sites that are simulated."""
    config, cohorts = simulation.config, simulation.cohorts
    if config.strategy.name == "local_only":
        raise ConfigError(
            "config.invalid",
            "run.toml: [strategy] name is local_only, which makes no global model.",
            remedy="Name another strategy; what each site's own model is worth is told "
            "beside it.",
        )
    if not isinstance(cohorts, DividedTable):
        return config
    names = tuple(
        PSEUDO_SITE.format(number) for number in range(1, cohorts.num_sites + 1)
    )
    content = {name: getattr(config, name) for name in RunConfig.model_fields}
    try:
        content["run"] = RunSection.model_validate(
            config.run.model_dump() | {"sites": names}
        )
        # Once more as a whole: a strategy may need more sites than are simulated.
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            "config.invalid",
            "\n".join(describe_faults(error, where="run.toml", with_values=True)),
            remedy="Simulate more sites, or change run.toml.",
        ) from error


def _open_folder(folder: Path) -> Coordinator:
    """Open the output folder; make it if it is new."""
    if not (folder / SETTINGS_NAME).exists():
        make_folder(folder, private=True)
        write_atomically(folder / SETTINGS_NAME, _SETTINGS.encode())
    coordinator = open_coordinator(folder)
    if coordinator.config.consortium != "simulation":
        raise ConfigError(
            "config.already_initialised",
            f"{folder}: is a coordinator's folder, not a simulation's.",
            remedy="Give another folder with --out: a server would take a simulated "
            "run for one of its own.",
        )
    make_folder(coordinator.runs_folder, private=True)
    return coordinator


def _play(
    simulation: Simulation,
    plan: RunPlan,
    run_folder: Path,
    data: SimulatedData,
    watchers: Watchers,
) -> None:
    if simulation.engine == "ray":
        play_with_ray(
            data,
            run_folder,
            num_workers=simulation.num_workers,
            notify=watchers.running,
        )
        return
    sites = tuple(
        LocalSite(
            name=site.name,
            cohort=data.open_site(site),
            key=load_key(site.key_path),
            device=simulation.device,
            runs_folder=site.runs_folder,
        )
        for site in data.sites
    )
    play_run(plan, run_folder, InProcessExchange(sites), watchers.running)


def _result(
    simulation: Simulation,
    plan: RunPlan,
    run_folder: Path,
    judgement: Judgement,
    seconds: float,
) -> SimulationResult:
    verdict = judgement.verdict
    split, concentration = _describe_division(simulation.cohorts)
    return SimulationResult(
        run=plan.run,
        run_folder=str(run_folder),
        engine=simulation.engine,
        split=split,
        concentration=concentration,
        seed=plan.seed,
        rounds=plan.rounds,
        strategy=plan.strategy,
        updates=plan.updates,
        sites=judgement.sites,
        num_held_out=verdict.num_patients,
        num_held_out_events=verdict.num_events,
        num_bootstrap=verdict.num_bootstrap,
        models=judgement.models,
        scores=tuple(verdict.scores),
        differences=tuple(verdict.differences),
        reaches_pooled=reaches(verdict.scores),
        by_round=judgement.rounds,
        warnings=tuple(verdict.warnings),
        seconds=seconds,
    )


def _describe_division(cohorts: SimulatedCohorts) -> tuple[SplitName, float | None]:
    """Return how the sites came about, and how alike they were made."""
    if not isinstance(cohorts, DividedTable):
        return "given", None
    return cohorts.split, None if cohorts.split == "iid" else cohorts.concentration
