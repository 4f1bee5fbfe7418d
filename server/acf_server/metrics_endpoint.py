"""A page with figures of the runs that Prometheus reads, on the loopback address.

It is made of the runs' files when it is asked for, and remembers nothing. What it
tells of patients are the figures of rounds.json, above the contract's minimum cell.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from acf_server.coordinator import Coordinator
from acf_server.run_files import (
    RUN_FILE,
    RoundRecord,
    RunRecord,
    SiteRecord,
    read_rounds,
    read_run,
    read_sites,
)
from acf_server.superlink import check_port_is_free
from acfnet_core.errors import AcfnetError
from acfnet_core.federation.checkpoint import completed_rounds

LOOPBACK = "127.0.0.1"
Family = GaugeMetricFamily | CounterMetricFamily

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "runs": ("Runs by status.", ("status",)),
    "runs_unreadable": ("Runs with a damaged file.", ()),
    "run_rounds": ("Rounds that the run asks for.", ("run",)),
    "run_rounds_done": ("Rounds that are complete.", ("run",)),
    "run_round_seconds": ("The last complete round, by phase.", ("run", "phase")),
    "run_model_loss": ("Mean loss of the last judged model.", ("run",)),
    "run_model_loss_patients": ("Patients behind that loss.", ("run",)),
    "run_model_c": ("Mean Harrell C of the last judged model.", ("run",)),
    "run_model_c_patients": ("Patients behind that C.", ("run",)),
    "run_model_worst_c": ("C at the site where it is lowest.", ("run", "site")),
    "site_answer_seconds": ("A site's last answer: begin to end.", ("run", "site")),
    "site_computing_seconds": ("Of them, computing at the site.", ("run", "site")),
}
"""Name, without `acfnet_`, to what it says and its labels."""
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run_bytes": ("Parameters sent and received.", ("run", "direction")),
    "site_rounds_answered": ("Rounds that a site took part in.", ("run", "site")),
    "site_rounds_failed": ("Rounds without a site.", ("run", "site", "code")),
}


@contextmanager
def metrics_endpoint(
    coordinator: Coordinator, *, tell: Callable[[str], None]
) -> Iterator[None]:
    """Serve the page while the block runs, if server.toml has a `metrics_port`.

    Raises:
        MachineError: The port is taken (`machine.port_in_use`).
    """
    port = coordinator.config.metrics_port
    if port is None:
        yield
        return
    check_port_is_free(LOOPBACK, port)
    registry = CollectorRegistry()
    registry.register(RunCollector(coordinator))
    server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    tell(f"Figures for Prometheus: http://{LOOPBACK}:{port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RunCollector(Collector):
    """Reads the figures of all runs of a coordinator when they are asked for."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def collect(self) -> Iterator[Family]:
        """Yield all families of figures."""
        page = _Page()
        for path in sorted(self._coordinator.runs_folder.glob(f"*/{RUN_FILE}")):
            try:
                page.add_run(path.parent)
            except AcfnetError:
                page.count("runs_unreadable")
        yield from page.families()


class _Page:
    """The figures of one answer."""

    def __init__(self) -> None:
        # Told at 0 too: an alert can rest on it.
        self._values: dict[str, dict[tuple[str, ...], float]] = {
            "runs_unreadable": {(): 0.0}
        }

    def add_run(self, run_folder: Path) -> None:
        """Add the figures of a run, or none of them."""
        run, rounds = read_run(run_folder), read_rounds(run_folder)
        sites = read_sites(run_folder)
        done = max(completed_rounds(run_folder), default=0)
        self.count("runs", run.status)
        self._add_progress(run, rounds, done)
        self._add_model(run.name, rounds)
        self._add_sites(run.name, sites, rounds)

    def count(self, name: str, *labels: str) -> None:
        """Add one to a figure."""
        self._put(name, self._values.get(name, {}).get(labels, 0.0) + 1, *labels)

    def families(self) -> Iterator[Family]:
        """Yield what was put, by family."""
        for kind, known in (
            (GaugeMetricFamily, GAUGES),
            (CounterMetricFamily, COUNTERS),
        ):
            for name, (words, labels) in known.items():
                family = kind(f"acfnet_{name}", words, labels=labels)
                for values, figure in self._values.get(name, {}).items():
                    family.add_metric(values, figure)
                yield family

    def _add_progress(
        self, run: RunRecord, rounds: list[RoundRecord], done: int
    ) -> None:
        self._put("run_rounds", run.rounds, run.name)
        self._put("run_rounds_done", done, run.name)
        for direction, sizes in (
            ("sent", [record.bytes_sent for record in rounds]),
            ("received", [record.bytes_received for record in rounds]),
        ):
            self._put("run_bytes", sum(sizes), run.name, direction)
        told = [record.phases for record in rounds if record.phases is not None]
        for phase, seconds in told[-1].model_dump().items() if told else ():
            self._put("run_round_seconds", seconds, run.name, phase)

    def _add_model(self, run: str, rounds: list[RoundRecord]) -> None:
        judged = [record for record in rounds if record.mean_loss is not None]
        if not judged:
            return
        last = judged[-1]
        self._put("run_model_loss", last.mean_loss, run)
        self._put("run_model_loss_patients", last.num_patients, run)
        self._put("run_model_c", last.mean_c, run)
        self._put("run_model_c_patients", last.num_patients_c, run)
        if last.worst_c_site is not None:
            self._put("run_model_worst_c", last.worst_c, run, last.worst_c_site)

    def _add_sites(
        self, run: str, sites: list[SiteRecord], rounds: list[RoundRecord]
    ) -> None:
        for site in sites:
            self._put("site_rounds_answered", site.rounds_answered, run, site.name)
            for code, number in site.rounds_failed.items():
                self._put("site_rounds_failed", number, run, site.name, code)
        for row in (row for record in rounds for row in record.sites):
            if row.asked and row.code is None:
                self._put("site_answer_seconds", row.seconds, run, row.name)
                seconds = row.computing_seconds
                self._put("site_computing_seconds", seconds, run, row.name)

    def _put(self, name: str, value: float | None, *labels: str) -> None:
        """Note a figure; what is withheld or unknown is left out."""
        if value is not None:
            self._values.setdefault(name, {})[labels] = value
