import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from references.run_folder import write_run_folder

from acf_server.coordinator import SETTINGS_NAME, Coordinator, initialise
from acf_server.coordinator import open_coordinator as open_folder
from acf_server.metrics_endpoint import RunCollector, metrics_endpoint
from acf_server.run_files import RUN_FILE
from acf_server.superlink import free_loopback_port
from acfnet_core.errors import ConfigError, MachineError

Figures = dict[frozenset[str], float]
"""By the values of the labels."""


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return initialise(
        tmp_path / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text='name = "crlm"\n',
        root_passphrase=b"x",
    )


@pytest.fixture
def run_folder(coordinator: Coordinator) -> Path:
    folder = coordinator.runs_folder / "demo-2025-11"
    folder.mkdir()
    write_run_folder(folder)
    return folder


def with_port(coordinator: Coordinator, port: object) -> Coordinator:
    path = coordinator.folder / SETTINGS_NAME
    path.write_text(f"{path.read_text()}\nmetrics_port = {port}\n")
    return open_folder(coordinator.folder)


def told(coordinator: Coordinator) -> Iterator[tuple[str, Figures]]:
    registry = CollectorRegistry()
    registry.register(RunCollector(coordinator))
    text = generate_latest(registry).decode()
    for family in text_string_to_metric_families(text):
        yield (
            family.name,
            {frozenset(s.labels.values()): s.value for s in family.samples},
        )


@pytest.mark.usefixtures("run_folder")
def test_a_run_is_told_with_its_figures_and_their_n(coordinator: Coordinator) -> None:
    figures = dict(told(coordinator))
    run = frozenset({"demo-2025-11"})
    assert figures["acfnet_runs"] == {frozenset({"finished"}): 1}
    assert figures["acfnet_run_rounds"] == {run: 6}
    assert figures["acfnet_run_model_c_patients"] == {run: 95}
    assert 0.5 < figures["acfnet_run_model_c"][run] < 0.8
    assert figures["acfnet_run_bytes"][run | {"sent"}] == 6 * 1_242_000
    assert figures["acfnet_site_rounds_failed"] == {
        run | {"harbour", "protocol.site_timeout"}: 1
    }


@pytest.mark.usefixtures("run_folder")
def test_a_count_that_was_withheld_is_left_out(coordinator: Coordinator) -> None:
    assert dict(told(coordinator))["acfnet_run_model_loss_patients"] == {}


def test_without_a_run_every_family_is_there(coordinator: Coordinator) -> None:
    figures = dict(told(coordinator))
    assert figures["acfnet_runs"] == {}
    assert figures["acfnet_runs_unreadable"] == {frozenset(): 0}


def test_a_damaged_run_is_counted_and_hides_no_other(
    coordinator: Coordinator, run_folder: Path
) -> None:
    other = coordinator.runs_folder / "a-damaged-one"
    other.mkdir()
    (other / RUN_FILE).write_text("{")
    figures = dict(told(coordinator))
    assert figures["acfnet_runs_unreadable"] == {frozenset(): 1}
    assert frozenset({run_folder.name}) in figures["acfnet_run_rounds"]


@pytest.mark.usefixtures("run_folder")
def test_the_page_is_served_on_the_loopback_address(coordinator: Coordinator) -> None:
    port = free_loopback_port()
    said: list[str] = []
    page = f"http://127.0.0.1:{port}/metrics"
    with (
        metrics_endpoint(with_port(coordinator, port), tell=said.append),
        urlopen(page, timeout=10) as answer,
    ):
        text = answer.read().decode()
    assert 'acfnet_runs{status="finished"} 1.0' in text
    assert said == [f"Figures for Prometheus: {page}"]


def test_it_ends_with_the_server(coordinator: Coordinator) -> None:
    port = free_loopback_port()
    with metrics_endpoint(with_port(coordinator, port), tell=lambda _: None):
        pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_unless_it_is_asked_for_nothing_is_served(coordinator: Coordinator) -> None:
    said: list[str] = []
    with metrics_endpoint(coordinator, tell=said.append):
        assert said == []


def test_a_port_that_is_taken_is_reported(coordinator: Coordinator) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        changed = with_port(coordinator, taken.getsockname()[1])
        with (
            pytest.raises(MachineError) as caught,
            metrics_endpoint(changed, tell=lambda _: None),
        ):
            pass
    assert caught.value.code == "machine.port_in_use"


@pytest.mark.parametrize("port", [0, 65536, '"9464"'])
def test_a_port_that_cannot_be_is_refused(
    coordinator: Coordinator, port: object
) -> None:
    with pytest.raises(ConfigError, match="metrics_port"):
        with_port(coordinator, port)
