"""A server that sends code of its own to the sites: none of it runs."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from references.demo_runs import TIMEOUT_S, demo_command, write_planted_table

from acf_server.control import Control
from acf_server.coordinator import Coordinator, open_coordinator
from acf_server.run_events import (
    EVENTS_FILE,
    ReadinessChecked,
    RunEvent,
    follow_events,
)
from acf_server.superlink import flower_server
from acfnet_core.federation.bundle import bundle_folder
from acfnet_core.federation.checkpoint import round_folder

pytestmark = [
    pytest.mark.integration,
    # flwr 1.41 asks pathspec 1.1 for its patterns by their old name.
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Path]:
    """The folder of a demo whose server and sites are still running."""
    clinical, series = write_planted_table(tmp_path, num_patients=90)
    folder, log = tmp_path / "demo", tmp_path / "stderr.log"
    options = ("--clinical", str(clinical), "--series", str(series), "--rounds", "1")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            demo_command(folder, *options, "--keep-running"),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        deadline = time.monotonic() + TIMEOUT_S
        while "still running" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield folder
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def repeat_run(coordinator: Coordinator) -> Path:
    """Copy the finished run as if it had not begun."""
    run_folder = coordinator.runs_folder / "again"
    shutil.copytree(coordinator.runs_folder / "demo", run_folder)
    shutil.rmtree(round_folder(run_folder, 1))
    (run_folder / EVENTS_FILE).unlink()
    return run_folder


def play(coordinator: Coordinator, bundle: Path) -> list[RunEvent]:
    with Control(flower_server(coordinator)) as control:
        run_folder = repeat_run(coordinator)
        control.start_run(bundle, run_folder)
        return list(follow_events(run_folder, check_alive=lambda: None))


def test_a_bundle_that_shadows_the_installed_app_runs_at_no_site(
    consortium: Path, tmp_path: Path
) -> None:
    bundle, marker = tmp_path / "bundle", tmp_path / "marker"
    (bundle / "acf_client").mkdir(parents=True)
    shutil.copy(bundle_folder() / "pyproject.toml", bundle)
    (bundle / "acf_client" / "__init__.py").touch()
    (bundle / "acf_client" / "app.py").write_text(
        "from flwr.clientapp import ClientApp\n"
        f"open({str(marker)!r}, 'w').close()\n"
        "app = ClientApp()\n"
    )
    events = play(open_coordinator(consortium / "coordinator"), bundle)
    (asked,) = [event for event in events if isinstance(event, ReadinessChecked)]
    codes = {site.site: site.codes for site in asked.sites}
    refused = ("protocol.bundle_refused",)
    assert codes == {"thin-slices": refused, "thick-slices": refused}
    assert not marker.exists()
    for site in ("thin-slices", "thick-slices"):
        log = consortium / "sites" / site / "logs" / "supernode.log"
        assert "not the one installed here" in log.read_text()
