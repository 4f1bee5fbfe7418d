"""What we use of Flower beyond its public interface, held against the installed one.

A failure here after an upgrade of flwr names what has to be adapted in
acf_server/control.py, acf_server/superlink.py or acf_client/supernode.py.
"""

import argparse
import hashlib
import inspect
import os
import re
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import flwr
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, Message
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import Status, SubStatus
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.serverapp import Grid
from flwr.supercore import sql_mixin
from flwr.supercore.cli.flower_superexec import _parse_args as superexec_parser
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    public_key_to_bytes,
)
from flwr.superlink.cli.flower_superlink import (
    _parse_args_run_superlink as superlink_parser,
)
from flwr.supernode import start_client_internal as node_loop
from flwr.supernode.cli.flower_supernode import (
    _parse_args_run_supernode as supernode_parser,
)

import acf_client.supernode as supernode_module
import acf_server.superlink as superlink_module
from acf_client.site import initialise as initialise_site
from acf_client.supernode_process import FIRST_POLL_S, SLOWEST_POLL_S, Pace
from acf_server import superlink_process
from acf_server.app import RUN_FOLDER_KEY
from acf_server.coordinator import Coordinator
from acf_server.coordinator import initialise as initialise_coordinator
from acf_server.superlink_process import (
    PRAGMAS,
    _count_no_traffic,
    _once_in_a_while,
    set_up_the_database,
)
from acfnet_core.federation.bundle import bundle_folder
from acfnet_core.flower_environment import flower_environment, flower_program
from acfnet_core.identity.keys import generate_key
from acfnet_core.processes import Child

SOURCE = Path(inspect.getfile(flwr)).parent
ADDRESS = "fl.example.org:8443"
Parser = Callable[[], argparse.ArgumentParser]

# flwr 1.41 asks pathspec 1.1 for its patterns by their old name.
old_pattern_name = pytest.mark.filterwarnings(
    "ignore:GitWildMatchPattern:DeprecationWarning"
)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would be started."""
    seen: list[list[str]] = []

    def start(name: str, command: list[str], **_: object) -> Child | None:
        seen.append(command)
        return None

    for module in (superlink_module, supernode_module):
        monkeypatch.setattr(module, "start_child", start)
    return seen


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return initialise_coordinator(
        tmp_path / "coordinator",
        consortium="crlm",
        address=ADDRESS,
        contract_text='name = "crlm"\n',
        root_passphrase=b"x",
    )


def parse(parser: Parser, command: list[str], program: str) -> argparse.Namespace:
    assert Path(command[0]).name == program
    return parser().parse_args(command[1:])


def test_the_superlink_takes_our_options(
    commands: list[list[str]], coordinator: Coordinator
) -> None:
    superlink_module._start_superlink(coordinator)
    assert commands[0][1:3] == ["-m", "acf_server.superlink_process"]
    options = superlink_parser().parse_args(commands[0][3:])
    assert options.enable_supernode_auth
    assert options.isolation == "process"
    assert (options.host, options.port) == ("127.0.0.1", 9092)
    assert not options.insecure


def test_the_superexec_takes_our_options(
    commands: list[list[str]], coordinator: Coordinator
) -> None:
    server = superlink_module.flower_server(coordinator)
    superlink_module._start_superexec(coordinator, server)
    options = parse(superexec_parser, commands[0], "flower-superexec")
    assert options.runtime_api_address == "127.0.0.1:9092"
    assert not options.insecure


def test_the_supernode_takes_our_options(
    commands: list[list[str]], tmp_path: Path
) -> None:
    table = tmp_path / "clinical.csv"
    table.touch()
    site = initialise_site(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    supernode_module.start_supernode(site, ADDRESS)
    assert commands[0][1:3] == ["-m", "acf_client.supernode_process"]
    options = supernode_parser().parse_args(commands[0][3:])
    assert options.superlink == ADDRESS
    assert options.auth_supernode_private_key == str(site.node_key_path)
    assert options.root_certificates == str(site.root_path)
    assert not options.insecure


def test_flowers_program_is_installed_beside_ours() -> None:
    assert os.access(flower_program("flower-superexec"), os.X_OK)


def test_flower_still_knows_every_variable_that_we_set(tmp_path: Path) -> None:
    text = "".join(
        (SOURCE / name).read_text(encoding="utf-8")
        for name in (
            "common/constant.py",
            "supercore/constant.py",
            "supercore/telemetry.py",
            "supercore/superexec/run_superexec.py",
        )
    )
    variables = flower_environment(tmp_path / "home")
    ours = [name for name in variables if name.startswith("FLWR_")]
    assert len(ours) == 6
    assert [name for name in ours if f'"{name}"' not in text] == []


def test_the_supernodes_loop_uses_nothing_of_time_but_sleep() -> None:
    path = SOURCE / "supernode" / "start_client_internal.py"
    used = re.findall(r"\btime\.(\w+)\(", path.read_text(encoding="utf-8"))
    assert "import time\n" in path.read_text(encoding="utf-8")
    assert set(used) == {"sleep"}


def test_the_supernode_asks_often_at_first_and_seldom_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for idle_s in (0.0, 10.0, 1000.0):
        Pace(last_message=time.monotonic() - idle_s).sleep(3)
    Pace(last_message=time.monotonic() - 1000.0).sleep(0.1)
    assert slept == pytest.approx([FIRST_POLL_S, 0.5, SLOWEST_POLL_S, 0.1], abs=0.01)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("_push_messages", {"state", "object_store", "send", "push_object"}),
        ("_insert_message", {"msg", "state", "store"}),
        ("_pull_and_store_message", {"receive", "get_run", "get_fab", "pull_object"}),
        ("start_client_internal", {"state_factory", "isolation", "trusted_entities"}),
    ],
)
def test_the_supernodes_loop_has_what_we_replace_and_call(
    name: str, options: set[str]
) -> None:
    function = vars(node_loop)[name]
    assert options <= set(inspect.signature(function).parameters)
    assert f"{name}(" in inspect.getsource(node_loop.start_client_internal) or (
        name in ("_insert_message", "start_client_internal")
    )


def test_the_supernodes_loop_stores_the_nodes_id_and_forgets_answered_messages() -> (
    None
):
    text = inspect.getsource(node_loop)
    assert "state.set_node_id(node_id)" in text
    assert "state.delete_messages(" in text


def test_a_part_of_a_message_is_looked_for_as_often_as_we_say() -> None:
    defaults = pull_objects.__kwdefaults__ or {}
    names = {"initial_backoff", "backoff_cap", "max_tries_per_object"}
    assert names <= set(defaults)
    assert defaults["initial_backoff"] < 0.1


def test_the_database_is_waited_for_longer_and_keeps_less() -> None:
    before = vars(sql_mixin)["SQLITE_PRAGMAS"]
    try:
        set_up_the_database()
        changed = dict(vars(sql_mixin)["SQLITE_PRAGMAS"])
    finally:
        vars(sql_mixin).update(SQLITE_PRAGMAS=before)
    assert changed == {**dict(before), **PRAGMAS}
    assert set(PRAGMAS) <= set(dict(before))
    assert dict(before)["busy_timeout"] == "5000"


def test_what_is_written_for_each_piece_is_replaced_by_what_takes_the_same() -> None:
    assert_takes_the_same(SqlLinkState.store_traffic, _count_no_traffic)
    assert_takes_the_same(
        SqlLinkState._cleanup_expired_task_tokens, _once_in_a_while(lambda _: None)
    )


def assert_takes_the_same(
    flowers: Callable[..., object], ours: Callable[..., object]
) -> None:
    """Check that what stands in for a method of Flower's takes what that takes."""
    (_, *names), (_, *own) = (
        [(each.name, each.kind) for each in inspect.signature(one).parameters.values()]
        for one in (flowers, ours)
    )
    assert names == own


def test_expired_tasks_are_looked_for_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    times = iter([10.0, 10.5, 10.9, 11.0, 11.5])
    monkeypatch.setattr(superlink_process, "monotonic", lambda: next(times))
    look = _once_in_a_while(seen.append)
    for number in range(5):
        look(number)
    assert seen == [0, 3]


def test_the_supernode_still_logs_that_it_is_connected() -> None:
    path = SOURCE / "supernode" / "start_client_internal.py"
    assert supernode_module._CONNECTED.decode() in path.read_text(encoding="utf-8")


def test_the_control_client_is_made_as_we_make_it() -> None:
    signature = inspect.signature(ControlHttpClient.from_server_address)
    expected = {"server_address", "insecure", "root_certificates", "interceptors"}
    assert expected <= set(signature.parameters)


@pytest.mark.parametrize(
    "name", ["ListNodes", "RegisterNode", "StartRun", "StopRun", "ListRuns", "close"]
)
def test_the_control_client_has_the_calls_that_we_make(name: str) -> None:
    assert callable(getattr(ControlHttpClient, name))


def test_the_version_header_is_made_as_we_make_it() -> None:
    parameters = inspect.signature(RuntimeVersionHttpInterceptor).parameters
    assert "component_name" in parameters


def test_the_requests_have_the_fields_that_we_fill() -> None:
    fab = fab_to_proto(Fab("0" * 64, b"bundle", {}))
    config = user_config_to_proto({RUN_FOLDER_KEY: "/run"})
    start = StartRunRequest(fab=fab, override_config=config)
    assert start.override_config[RUN_FOLDER_KEY].string == "/run"
    assert RegisterNodeRequest(public_key=b"key", name="hospital-a").name
    assert StopRunRequest(run_id=3).run_id == ListRunsRequest(run_id=3).run_id == 3
    assert ListNodesRequest() is not None


def test_a_node_has_the_fields_that_we_read() -> None:
    node = NodeInfo(node_id=3, name="hospital-a", status="online")
    assert (node.node_id, node.name, node.status) == (3, "hospital-a", "online")


def test_the_grid_has_the_calls_that_we_make() -> None:
    for name in ("get_nodes", "push_messages", "pull_messages"):
        assert callable(getattr(Grid, name))


def test_a_message_takes_what_we_give_it() -> None:
    text = inspect.getsource(Message.__init__)
    names = ("content", "dst_node_id", "message_type", "ttl", "group_id", "reply_to")
    assert all(f"{name}:" in text for name in names)


def test_an_array_is_saved_as_we_read_it() -> None:
    array = Array(np.arange(3, dtype=np.float32))
    assert (array.stype, len(array.data)) == ("numpy.ndarray", 128 + 3 * 4)


def test_a_public_key_reaches_flower_whole() -> None:
    key = generate_key().public_key()
    back = bytes_to_public_key(public_key_to_bytes(key))
    assert isinstance(back, ec.EllipticCurvePublicKey)
    assert back == key


def test_the_words_for_an_ended_run_are_those_that_we_compare() -> None:
    assert (Status.FINISHED, Status.PENDING) == ("finished", "pending")
    assert SubStatus.STOPPED == "stopped"


@old_pattern_name
def test_the_bundle_holds_names_and_no_code() -> None:
    content = build_fab_from_disk(bundle_folder())
    with zipfile.ZipFile(BytesIO(content)) as bundle:
        names = [name for name in bundle.namelist() if not name.startswith(".info")]
    assert names == ["pyproject.toml"]


@old_pattern_name
def test_the_bundle_is_built_with_the_same_hash_twice() -> None:
    first, second = (
        hashlib.sha256(build_fab_from_disk(bundle_folder())).hexdigest()
        for _ in range(2)
    )
    assert first == second
