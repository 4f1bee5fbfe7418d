"""A message is answered in the SuperNode, by the installed app alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import Status
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as node_loop
from flwr.supernode.nodestate import NodeState
from references.flower_task import be_a_flower_task

import acf_client.app as app_module
import acf_client.resident_app as resident_module
from acf_client.resident_app import answer_messages, check_bundle, persistent
from acf_client.supernode_process import Pace, SiteNodeState, this_machine
from acf_client.trainer_link import Frame
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.bundle import bundle_folder
from acfnet_core.federation.messages import (
    DOCUMENT,
    FAILURE,
    PARAMETERS,
    REPLY,
    REQUEST,
    parse_failure,
)

# flwr 1.41 asks pathspec 1.1 for its patterns by their old name.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

RUN, NODE = 5, 9
VALUES = np.arange(4, dtype=np.float32)
INSTALLED = "the bundle that is installed"


@pytest.fixture(autouse=True)
def _flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_flower_task(monkeypatch)


@pytest.fixture
def objects() -> ObjectStoreFactory:
    return ObjectStoreFactory()


@pytest.fixture
def state(objects: ObjectStoreFactory, tmp_path: Path) -> SiteNodeState:
    made = SiteNodeState(objects, session_file=tmp_path / "session.json", pace=Pace())
    made.set_node_id(NODE)
    return made


def receive(state: NodeState, store: ObjectStore, bundle: bytes) -> str:
    """Put a message where Flower's loop puts what it has pulled."""
    message = Message(
        content=RecordDict(
            {
                REQUEST: ConfigRecord({DOCUMENT: "a request"}),
                PARAMETERS: ArrayRecord({PARAMETERS: Array(VALUES)}),
            }
        ),
        dst_node_id=NODE,
        message_type="train",
    )
    message.metadata.__dict__["_run_id"] = RUN
    run = Run.create_empty(RUN)
    run.fab_hash = hashlib.sha256(bundle).hexdigest()
    state.store_run(run)
    state.store_fab(Fab(run.fab_hash, bundle, {}))
    context = Context(RUN, NODE, {}, RecordDict(), {})
    state.set_run_series_context(run.series_id, context)
    state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN)
    insert: Callable[..., None] = vars(node_loop)["_insert_message"]
    insert(message, state, store)
    return message.metadata.message_id


def reply_in(state: NodeState, store: ObjectStore) -> Message:
    (reply,) = state.get_messages_legacy(is_reply=True)
    return reply


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """What the trainer was asked; it answers with twice the values."""
    asked: list[Frame] = []

    def answer(request: Frame) -> Frame:
        asked.append(request)
        assert request.parameters is not None
        return Frame(REPLY, "a reply", request.parameters * 2)

    monkeypatch.setattr(app_module, "ask_trainer", answer)
    return asked


def test_a_message_is_answered_by_the_installed_app(
    state: SiteNodeState, objects: ObjectStoreFactory, trainer: list[Frame]
) -> None:
    bundle = build_fab_from_disk(bundle_folder())
    message_id = receive(state, objects.store(), bundle)
    answer_messages(state, objects.store())
    reply = reply_in(state, objects.store())
    assert reply.metadata.reply_to_message_id == message_id
    values = reply.content.array_records[PARAMETERS][PARAMETERS].numpy()
    assert np.array_equal(values, VALUES * 2)
    assert trainer[0].document == "a request"


def test_another_bundle_is_answered_with_a_code_and_nothing_of_it_runs(
    state: SiteNodeState, objects: ObjectStoreFactory, trainer: list[Frame]
) -> None:
    receive(state, objects.store(), b"another bundle")
    answer_messages(state, objects.store())
    reply = reply_in(state, objects.store())
    assert set(reply.content) == {FAILURE}
    document = str(reply.content.config_records[FAILURE][DOCUMENT])
    assert parse_failure(document).code == "protocol.bundle_refused"
    assert trainer == []


@pytest.mark.usefixtures("trainer")
def test_flowers_tasks_do_not_pile_up(
    state: SiteNodeState, objects: ObjectStoreFactory
) -> None:
    receive(state, objects.store(), b"any bundle")
    answer_messages(state, objects.store())
    assert state.get_tasks(statuses=[Status.PENDING]) == []


def test_the_session_is_kept_for_the_next_start(
    state: SiteNodeState, tmp_path: Path
) -> None:
    text = (tmp_path / "session.json").read_text()
    assert f'"node_id": {NODE}' in text
    assert this_machine() in text
    assert (tmp_path / "session.json").stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_carries_code_is_refused(tmp_path: Path) -> None:
    names = (bundle_folder() / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(names)
    (tmp_path / "acf_client").mkdir()
    (tmp_path / "acf_client" / "app.py").write_text("print('shadow')\n")
    with pytest.raises(ProtocolError) as caught:
        check_bundle(build_fab_from_disk(tmp_path))
    assert caught.value.code == "protocol.bundle_refused"


def failing(times: int) -> Callable[[], str]:
    left = [httpx.ReadError("away")] * times

    def send() -> str:
        if left:
            raise left.pop()
        return "taken"

    return send


def test_an_answer_is_sent_until_the_server_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(resident_module, "sleep", pauses.append)
    assert persistent(failing(4))() == "taken"
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_never_takes_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resident_module, "sleep", lambda s: None)
    with pytest.raises(httpx.ReadError):
        persistent(failing(99))()
