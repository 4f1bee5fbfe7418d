"""A small consortium of real processes, to be killed, cut off and starved.

Its sites have a clinical table alone, so that a round takes a second; every process is
the one that a person starts.
"""

import csv
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from acf_server.coordinator import Coordinator, initialise
from acf_server.demo_sites import DemoSite
from acf_server.enrolment import approve_site, invite_site
from acf_server.run_config import RunConfig, RunSection
from acf_server.run_files import RunStatus, read_run
from acf_server.run_plan import StrategySettings
from acf_server.runs import create_run
from acf_server.superlink import free_loopback_port
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.synthetic.patient import draw_patient
from acfnet_core.federation.checkpoint import (
    PARAMETERS_FILE,
    completed_rounds,
    round_folder,
)
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.processes import (
    OUTER_GRACE_S,
    Child,
    is_ready,
    start_child,
    stop_children,
    wait_until,
)
from acfnet_core.training.settings import LocalTrainingSettings

READY_TIMEOUT_S = 300.0
POLL_S = 0.2


def write_table(path: Path, *, site: str, num_patients: int, seed: int) -> None:
    """Write a made-up clinical table without scans."""
    rows = []
    for index in range(num_patients):
        patient = draw_patient(site, index, seed=seed, scans_missing_probability=1.0)
        row = {**patient.row, "Patient-ID": f"{site}-{index:04d}"}
        row.pop("date_of_liver_resection", None)
        rows.append(row)
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Consortium:
    """A coordinator and its sites, enrolled and prepared; nothing runs yet.

    Attributes:
        running: By name ("server" or a site's): what was started and is kept up.
    """

    folder: Path
    coordinator: Coordinator
    sites: tuple[DemoSite, ...]
    running: dict[str, Child] = field(default_factory=dict)

    def start_all(self) -> None:
        """Start the server, then the sites, and wait until all are ready."""
        self.start("server")
        self._wait(["server"])
        for site in self.sites:
            self.start(site.name)
        self._wait([site.name for site in self.sites])

    def start(self, name: str) -> None:
        """Start the server or a site."""
        if name == "server":
            self.running[name] = start_child(
                "acf-server start",
                [
                    *(sys.executable, "-m", "acf_server", "start"),
                    *("--folder", str(self.coordinator.folder)),
                ],
                log_file=self.coordinator.logs_folder / "start.log",
            )
            return
        self.running[name] = next(s for s in self.sites if s.name == name).start()

    def restart_ended(self) -> list[str]:
        """Start again what has ended, as systemd would; return the names."""
        ended = [name for name, child in self.running.items() if child.has_ended]
        for name in ended:
            self.start(name)
        return ended

    def processes_of(self, name: str) -> list[int]:
        """Return the process ids of the server or a site, itself first."""
        leader = self.running[name].process.pid
        found, added = [leader], True
        parents = _parents()
        while added:
            new = [pid for pid, parent in parents.items() if parent in found]
            added = bool(set(new) - set(found))
            found += [pid for pid in new if pid not in found]
        return found

    def begin_run(
        self,
        name: str,
        *,
        rounds: int,
        local_steps: int = 4,
        size: str = "tiny",
        strategy: StrategySettings | None = None,
        updates: UpdateSettings | None = None,
        **section: object,
    ) -> Path:
        """Start a run over all sites; the server does it."""
        config = RunConfig(
            run=RunSection.model_validate(
                {
                    "name": name,
                    "study": "Soak test",
                    "sites": tuple(site.name for site in self.sites),
                    "rounds": rounds,
                    "seed": 7,
                    "data_origin": "synthetic",
                    "round_timeout_s": 900.0,
                    **section,
                }
            ),
            model={"size": size},
            training=LocalTrainingSettings(local_steps=local_steps),
            strategy=strategy or StrategySettings(),
            updates=updates or UpdateSettings(),
        )
        return create_run(self.coordinator, config)

    def wait_for_run(self, run_folder: Path, *, timeout_s: float) -> RunStatus:
        """Wait until a run has ended, keeping everything up."""
        deadline = monotonic() + timeout_s
        while (status := read_run(run_folder).status) == "running":
            self.restart_ended()
            if monotonic() > deadline:
                raise TimeoutError(f"{run_folder.name} is still running")
            sleep(POLL_S)
        return status

    def wait_for_round(
        self, run_folder: Path, number: int, *, timeout_s: float
    ) -> None:
        """Wait until a round is complete, keeping everything up."""
        deadline = monotonic() + timeout_s
        while max(completed_rounds(run_folder)) < number:
            self.restart_ended()
            if read_run(run_folder).status != "running" or monotonic() > deadline:
                raise TimeoutError(f"{run_folder.name}: round {number} is not complete")
            sleep(POLL_S)

    def keep(self, seconds: float) -> None:
        """Let time go by, keeping everything up."""
        until = monotonic() + seconds
        while monotonic() < until:
            self.restart_ended()
            sleep(POLL_S)

    def stop(self) -> None:
        """End everything."""
        stop_children(list(self.running.values()), grace_s=OUTER_GRACE_S)

    def _wait(self, names: Sequence[str]) -> None:
        children = [self.running[name] for name in names]
        wait_until(
            lambda: all(is_ready(child) for child in children),
            children=children,
            timeout_s=READY_TIMEOUT_S,
        )


@contextmanager
def consortium(
    folder: Path,
    *,
    num_sites: int,
    num_patients: int = 40,
    port: int | None = None,
    seen_port: int | None = None,
) -> Iterator[Consortium]:
    """Make and start a consortium; end all of it when the block is left."""
    made = make_consortium(
        folder,
        num_sites=num_sites,
        num_patients=num_patients,
        port=port,
        seen_port=seen_port,
    )
    try:
        made.start_all()
        yield made
    finally:
        made.stop()


def make_consortium(
    folder: Path,
    *,
    num_sites: int,
    num_patients: int = 40,
    port: int | None = None,
    seen_port: int | None = None,
) -> Consortium:
    """Make up the sites' tables, enrol the sites and prepare their data.

    Args:
        folder: Where everything is made.
        num_sites: How many sites.
        num_patients: Of each site.
        port: Where the server listens; a free one unless given.
        seen_port: Where the sites connect to; the server's own unless given.
    """
    port = port or free_loopback_port()
    coordinator = initialise(
        folder / "coordinator",
        consortium="soak",
        address=f"127.0.0.1:{seen_port or port}",
        contract_text=contract_to_toml(shipped_contract("crlm").without_imaging()),
        port=port,
    )
    sites = []
    for number in range(num_sites):
        name = f"site-{number:02d}"
        table = folder / "tables" / name / "clinical.csv"
        write_table(table, site=name, num_patients=num_patients, seed=number)
        site = DemoSite(name, folder / "sites" / name)
        site.initialise(table, None, None)
        request, fingerprint = site.request_enrolment(invite_site(coordinator, name))
        admission = site.folder.parent / f"{name}-admission.json"
        approve_site(coordinator, name, request, fingerprint, admission)
        site.finish_enrolment(admission)
        site.check_and_prepare()
        sites.append(site)
    return Consortium(folder, coordinator, tuple(sites))


def parameters_after(run_folder: Path, number: int) -> bytes:
    """Return the model's file after a round."""
    return (round_folder(run_folder, number) / PARAMETERS_FILE).read_bytes()


def kill(pid: int) -> bool:
    """Kill a process without a chance to clean up; tell whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def command_of(pid: int) -> str:
    """Return a process's command line; empty when it has gone."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return line.replace(b"\0", b" ").decode(errors="replace")


def _parents() -> dict[int, int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            # It has ended since it was listed.
            continue
        parents[int(folder.name)] = int(fields[1])
    return parents


def describe_machine() -> str:
    """Return the processor and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    name = names[0].strip() if names else "unknown processor"
    return f"{name}, {os.cpu_count()} cores"
