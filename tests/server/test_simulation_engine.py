"""The server's side of Flower's simulation engine, without the engine."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from references.flower_task import be_a_flower_task, set_message_id
from references.run_folder import make_run

from acf_server.run_events import RunFailed, append_event
from acf_server.run_files import RUN_FILE, write_record
from acf_server.simulation_ray import NamedNodes, require_finished, require_ray
from acfnet_core.errors import AcfnetError
from acfnet_core.federation.simulated_sites import SITE_NAME, SITE_RECORD


@dataclass
class Node:
    """What Flower tells of a node."""

    node_id: int
    name: str = ""


@dataclass
class Engine:
    """A grid whose nodes answer with their site's name, in any order."""

    sites: dict[int, str]
    asked: list[int] = field(default_factory=list)
    pull_interval: float = 0.1

    def get_nodes(self) -> Iterable[Node]:
        return [Node(node_id) for node_id in self.sites]

    def send_and_receive(
        self, messages: list[Message], *, timeout: float
    ) -> Iterable[Message]:
        for number, message in enumerate(reversed(messages)):
            node_id = message.metadata.dst_node_id
            self.asked.append(node_id)
            set_message_id(message, str(number))
            told = ConfigRecord({SITE_NAME: self.sites[node_id]})
            yield Message(content=RecordDict({SITE_RECORD: told}), reply_to=message)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    be_a_flower_task(monkeypatch)
    return Engine({11: "north", 7: "south"})


def named(engine: Any) -> NamedNodes:
    return NamedNodes(engine)


def test_nodes_bear_the_names_of_their_sites(engine: Engine) -> None:
    nodes = named(engine).get_nodes()
    assert {node.node_id: node.name for node in nodes} == engine.sites


def test_a_node_is_asked_once(engine: Engine) -> None:
    grid = named(engine)
    grid.get_nodes()
    grid.get_nodes()
    assert sorted(engine.asked) == sorted(engine.sites)


def test_all_else_is_left_to_flower(engine: Engine) -> None:
    assert named(engine).pull_interval == 0.1


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is not None, reason="Ray is installed"
)
def test_without_ray_nothing_begins() -> None:
    with pytest.raises(AcfnetError) as refused:
        require_ray()
    assert refused.value.code == "machine.program_missing"
    assert "acfnet[simulation]" in refused.value.remedy


def test_a_finished_run_is_not_questioned(tmp_path: Path) -> None:
    write_record(tmp_path / RUN_FILE, make_run())
    require_finished(tmp_path)


def test_what_ended_the_run_is_raised_again(tmp_path: Path) -> None:
    write_record(tmp_path / RUN_FILE, make_run(status="failed"))
    told = RunFailed(code="protocol.too_few_sites", message="Round 2.", remedy="Mend.")
    append_event(tmp_path, told)
    with pytest.raises(AcfnetError, match=r"Round 2\.") as raised:
        require_finished(tmp_path)
    assert raised.value.code == "protocol.too_few_sites"


def test_an_end_without_a_reason_is_an_error_too(tmp_path: Path) -> None:
    write_record(tmp_path / RUN_FILE, make_run(status="failed"))
    with pytest.raises(AcfnetError) as raised:
        require_finished(tmp_path)
    assert raised.value.code == "protocol.run_failed"
