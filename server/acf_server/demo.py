"""A whole consortium on one machine, by the code paths of real users.

The coordinator's steps are calls of the functions behind the commands. The sites' steps
are the `acf-client` commands themselves, each a process of its own, since the two sides
never import each other.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from acf_server.console import Console, describe_verdict
from acf_server.coordinator import Coordinator, initialise
from acf_server.demo_data import (
    DemoCohort,
    make_synthetic_cohort,
    split_public_table,
)
from acf_server.demo_sites import DemoSite, in_parallel
from acf_server.enrolment import approve_site, invite_site
from acf_server.evaluation import evaluate_tables
from acf_server.report import write_report
from acf_server.run_config import RunConfig, RunSection
from acf_server.run_overview import view_of
from acf_server.runs import create_run, follow_run, require_finished
from acf_server.superlink import free_loopback_port
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import MachineError
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.files import make_folder
from acfnet_core.processes import (
    OUTER_GRACE_S,
    Child,
    check_alive,
    is_ready,
    start_child,
    stop_children,
    wait_until,
    watch,
)
from acfnet_core.training.settings import LocalTrainingSettings

CONSORTIUM = "demo"
RUN = "demo"
STUDY = "Disease-free survival after resection of colorectal liver metastases"
NUM_STAGES = 8
READY_TIMEOUT_S = 240.0
ROUND_TIMEOUT_S = 300.0
DEFAULT_EPOCHS = 1
DEFAULT_SEED = 2
"""With it each of the three made-up sites has ten patients with and ten without the
event, so that each may tell its concordance."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the options of `acf-server demo` say."""

    folder: Path
    num_sites: int = 3
    num_rounds: int = 8
    num_patients: int | None = None
    """Of all sites together; None takes the default of the made-up cohort."""
    seed: int = DEFAULT_SEED
    clinical_table: Path | None = None
    series_table: Path | None = None
    features: tuple[str, ...] = ()
    local_steps: int | None = None
    keep_running: bool = False


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made."""

    run_folder: Path
    report: Path
    num_rounds: int
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """Return the one JSON object of `acf-server demo --json`."""
        verdict = self.verdict
        return {
            "run_dir": str(self.run_folder),
            "report": str(self.report),
            "rounds": self.num_rounds,
            "metrics": {
                "num_patients": verdict.num_patients,
                "num_events": verdict.num_events,
                "headline": verdict.headline,
                "models": [
                    score.model_dump(
                        mode="json",
                        include={
                            "name",
                            "num_patients",
                            "harrell_c",
                            "uno_c",
                            "integrated_brier",
                            "scaled_brier",
                        },
                    )
                    for score in verdict.scores
                ],
            },
        }


@dataclass
class _Stages:
    """Numbers the stages, and says at which one the demo failed."""

    console: Console
    folder: Path
    number: int = field(default=0)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage; on an error say where the logs are."""
        self.number += 1
        self.console.stage(self.number, NUM_STAGES, title)
        started = monotonic()
        is_done = False
        try:
            yield
            is_done = True
            self.console.note(f"done in {monotonic() - started:.0f} s")
        finally:
            if not is_done:
                self._say_stopped(title)

    def _say_stopped(self, title: str) -> None:
        self.console.say(
            f"Stopped at stage {self.number} of {NUM_STAGES}: {title}. Everything "
            "that was started is being ended."
        )
        if (self.folder / "sites").exists():
            self.console.say(f"Logs: {self.folder}/coordinator/logs")
            self.console.say(f"      {self.folder}/sites/*/logs")
        if any(path.is_file() for path in self.folder.rglob("*")):
            self.console.say(f"To start again, remove {self.folder} first.")
        else:
            # Nothing came into it yet, so the same command may be repeated.
            shutil.rmtree(self.folder, ignore_errors=True)


def play_demo(
    settings: DemoSettings, console: Console, tell: Callable[[DemoResult], None]
) -> None:
    """Play the consortium in a new folder.

    Args:
        settings: What the options say.
        console: Where people read along.
        tell: Takes the result, before `keep_running` begins to wait.

    Raises:
        MachineError: The folder has something in it, or a process failed.
        AcfnetError: A stage failed; everything that was started has been ended.
    """
    folder = settings.folder.absolute()
    _refuse_used_folder(folder)
    make_folder(folder)
    stages = _Stages(console, folder)
    with stages.stage("Patients' files: DICOM, segmentations, clinical tables"):
        cohort = _make_cohort(settings, folder / "hospitals", console)
        for hospital in filter(lambda one: one.habits, cohort.hospitals):
            console.note(f"{hospital.name}: {hospital.habits}")
    with stages.stage("Coordinator: certificates, contract, registry"):
        port = free_loopback_port()
        coordinator = initialise(
            folder / "coordinator",
            consortium=CONSORTIUM,
            address=f"127.0.0.1:{port}",
            contract_text=contract_to_toml(cohort.contract),
            port=port,
        )
    sites = [DemoSite(name, folder / "sites" / name) for name in cohort.site_names]
    with stages.stage(f"Enrolment of {len(sites)} sites"):
        _enrol(coordinator, sites, cohort, console)
    with stages.stage("Check and prepare each site's data"):
        for line in in_parallel(sites, DemoSite.check_and_prepare):
            console.note(line)
    with ExitStack() as stack:
        with stages.stage("Start the server and the sites, with TLS"):
            children = _start(coordinator, sites, stack, console)
        with stages.stage(f"Train {settings.num_rounds} rounds"):
            run_folder = _train(coordinator, settings, cohort, children, console)
        with stages.stage("Judge the model on held-out patients"):
            verdict = evaluate_tables(
                coordinator,
                run_folder,
                held_out=cohort.held_out.sources,
                references=[hospital.sources for hospital in cohort.hospitals],
                notify=lambda event: console.preparing("held-out", event),
            )
        with stages.stage("Report"):
            report = write_report(run_folder)
            console.note(str(report))
        result = DemoResult(
            run_folder=run_folder,
            report=report,
            num_rounds=settings.num_rounds,
            verdict=verdict,
        )
        _conclude(result, coordinator, console)
        tell(result)
        if settings.keep_running:
            console.say("Everything is still running; Ctrl-C ends it.")
            _keep_running(children)


def _make_cohort(settings: DemoSettings, folder: Path, console: Console) -> DemoCohort:
    if settings.clinical_table is None:
        return make_synthetic_cohort(
            folder,
            num_sites=settings.num_sites,
            num_patients=settings.num_patients,
            seed=settings.seed,
            features=settings.features,
            watch=console.count_patients,
        )
    return split_public_table(
        folder,
        clinical_table=settings.clinical_table,
        series_table=settings.series_table,
        num_sites=settings.num_sites,
        num_patients=settings.num_patients,
        seed=settings.seed,
        features=settings.features,
        note=console.note,
    )


def _enrol(
    coordinator: Coordinator,
    sites: list[DemoSite],
    cohort: DemoCohort,
    console: Console,
) -> None:
    """Invite, request, compare fingerprints, approve, admit."""

    def enrol(site: DemoSite) -> str:
        hospital = cohort.hospital(site.name)
        site.initialise(hospital.clinical_table, hospital.images, hospital.settings)
        line = invite_site(coordinator, site.name)
        request, fingerprint = site.request_enrolment(line)
        admission = site.folder.parent / f"{site.name}-admission.json"
        approve_site(coordinator, site.name, request, fingerprint, admission)
        site.finish_enrolment(admission)
        return f"{site.name}: enrolled, fingerprint {fingerprint}"

    for line in in_parallel(sites, enrol):
        console.note(line)


def _start(
    coordinator: Coordinator,
    sites: list[DemoSite],
    stack: ExitStack,
    console: Console,
) -> list[Child]:
    """Start the server, then the sites; the stack ends them all."""
    children: list[Child] = []
    stack.callback(stop_children, children, grace_s=OUTER_GRACE_S)
    children.append(
        start_child(
            "acf-server start",
            [
                *(sys.executable, "-m", "acf_server", "start"),
                *("--folder", str(coordinator.folder)),
            ],
            log_file=coordinator.logs_folder / "start.log",
        )
    )
    _wait(children[:1])
    console.note(f"server ready on 127.0.0.1:{coordinator.config.listen_port}")
    children.extend(site.start() for site in sites)
    _wait(children)
    console.note(f"{len(sites)} sites connected")
    return children


def _wait(children: list[Child]) -> None:
    wait_until(
        lambda: all(is_ready(child) for child in children),
        children=children,
        timeout_s=READY_TIMEOUT_S,
    )


def _train(
    coordinator: Coordinator,
    settings: DemoSettings,
    cohort: DemoCohort,
    children: list[Child],
    console: Console,
) -> Path:
    epochs = None if settings.local_steps else DEFAULT_EPOCHS
    config = RunConfig(
        run=RunSection(
            name=RUN,
            study=STUDY,
            purpose=cohort.purpose,
            sites=cohort.site_names,
            rounds=settings.num_rounds,
            seed=settings.seed,
            data_origin=cohort.origin,
            round_timeout_s=ROUND_TIMEOUT_S,
        ),
        model={"size": "tiny"},
        training=LocalTrainingSettings(
            local_epochs=epochs,
            local_steps=settings.local_steps,
            learning_rate=cohort.learning_rate,
        ),
    )
    run_folder = create_run(coordinator, config)
    events = follow_run(
        coordinator, run_folder, check_alive=lambda: check_alive(children)
    )
    require_finished(console.follow(events, view=view_of(run_folder, end_at=0)))
    return run_folder


def _conclude(result: DemoResult, coordinator: Coordinator, console: Console) -> None:
    """Say what was made, the figures, and what to type next."""
    console.say("")
    for line in describe_verdict(result.verdict):
        console.say(line)
    console.say(f"\nReport  {result.report}")
    console.say(f"Model   {result.run_folder / 'model'}")
    console.say("Next:   open the report in a browser")
    console.say(f"        acf-server site list --folder {coordinator.folder}")
    console.say(f"        acf-server run list --folder {coordinator.folder}")


def _keep_running(children: list[Child]) -> None:
    try:
        watch(children)
    except KeyboardInterrupt:
        return


def _refuse_used_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise MachineError(
            "machine.folder_not_empty",
            f"{folder}: has something in it; the demo never mixes with what is there.",
            remedy="Give --dir another folder, or remove this one.",
        )
    if folder.exists() and not folder.is_dir():
        raise MachineError(
            "machine.folder_unwritable",
            f"{folder}: is a file, not a folder.",
            remedy="Give --dir another name.",
        )
