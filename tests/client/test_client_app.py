import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from references.flower_task import be_a_flower_task

import acf_client.app as app_module
from acf_client import trainer_link
from acf_client.app import take_part
from acf_client.trainer_link import (
    SOCKET_VARIABLE,
    Frame,
    listen,
    receive_frame,
    send_frame,
)
from acfnet_core.federation.messages import (
    DOCUMENT,
    FAILURE,
    PARAMETERS,
    REPLY,
    REQUEST,
    parse_failure,
)

CANARY = "PATIENT-4711"
VALUES = np.arange(5, dtype=np.float32)
CONTEXT = Context(
    run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={}
)


@pytest.fixture(autouse=True)
def _flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_flower_task(monkeypatch)


def make_message(content: RecordDict | None = None) -> Message:
    whole = RecordDict(
        {
            REQUEST: ConfigRecord({DOCUMENT: "a request"}),
            PARAMETERS: ArrayRecord({PARAMETERS: Array(VALUES)}),
        }
    )
    return Message(
        content=whole if content is None else content,
        dst_node_id=2,
        message_type="train",
    )


def keys_of(message: Message) -> dict[str, set[str]]:
    """Everything that leaves: the records' names and the names in each."""
    return {name: set(record) for name, record in message.content.items()}


def failure_code(message: Message) -> str:
    assert keys_of(message) == {FAILURE: {DOCUMENT}}
    return parse_failure(str(message.content.config_records[FAILURE][DOCUMENT])).code


class FakeTrainer:
    """Answers one request with a frame; keeps what it was asked."""

    def __init__(self, listener: socket.socket, answer: Frame) -> None:
        self.asked: list[Frame] = []
        self._listener, self._answer = listener, answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        link, _ = self._listener.accept()
        with link:
            self.asked.append(receive_frame(link))
            send_frame(link, self._answer)


@pytest.fixture
def listener(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    monkeypatch.setenv(SOCKET_VARIABLE, str(socket_path))
    with listen(socket_path) as opened:
        yield opened


def test_the_trainers_reply_leaves_under_the_agreed_keys_alone(
    listener: socket.socket,
) -> None:
    FakeTrainer(listener, Frame(REPLY, "a reply", VALUES * 2))
    reply = take_part(make_message(), CONTEXT)
    assert keys_of(reply) == {REPLY: {DOCUMENT}, PARAMETERS: {PARAMETERS}}
    assert reply.content.config_records[REPLY][DOCUMENT] == "a reply"
    values = reply.content.array_records[PARAMETERS][PARAMETERS].numpy()
    assert np.array_equal(values, VALUES * 2)


def test_the_request_reaches_the_trainer_whole(listener: socket.socket) -> None:
    trainer = FakeTrainer(listener, Frame(REPLY, "a reply"))
    take_part(make_message(), CONTEXT)
    assert trainer.asked[0].document == "a request"
    assert trainer.asked[0].parameters is not None
    assert np.array_equal(trainer.asked[0].parameters, VALUES)


def test_a_reply_without_parameters_has_no_record_of_any(
    listener: socket.socket,
) -> None:
    FakeTrainer(listener, Frame(REPLY, "a reply"))
    assert keys_of(take_part(make_message(), CONTEXT)) == {REPLY: {DOCUMENT}}


def test_the_trainers_failure_leaves_as_a_failure(listener: socket.socket) -> None:
    FakeTrainer(listener, Frame(FAILURE, '{"code": "data.no_events"}'))
    assert failure_code(take_part(make_message(), CONTEXT)) == "data.no_events"


def test_no_metric_of_flower_leaves(listener: socket.socket) -> None:
    FakeTrainer(listener, Frame(REPLY, "a reply", VALUES))
    assert not take_part(make_message(), CONTEXT).content.metric_records


def test_an_unreachable_trainer_leaves_as_its_code(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(socket_path))
    monkeypatch.setattr(trainer_link, "TRAINER_RETURN_S", 0.0)
    reply = take_part(make_message(), CONTEXT)
    assert failure_code(reply) == "protocol.trainer_unreachable"


def test_a_question_without_parameters_reaches_the_trainer(
    listener: socket.socket,
) -> None:
    trainer = FakeTrainer(listener, Frame(REPLY, "an answer"))
    content = make_message().content
    del content[PARAMETERS]
    take_part(make_message(content), CONTEXT)
    assert trainer.asked == [Frame(REQUEST, "a request")]


def test_a_message_without_a_request_is_malformed() -> None:
    content = make_message().content
    del content[REQUEST]
    reply = take_part(make_message(content), CONTEXT)
    assert failure_code(reply) == "protocol.malformed"


def test_an_unexpected_error_neither_leaves_nor_is_logged_with_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: Frame) -> Frame:
        raise ValueError(CANARY)

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(app_module, "ask_trainer", fail)
    reply = take_part(make_message(), CONTEXT)
    assert failure_code(reply) == "protocol.site_failed"
    assert CANARY not in caplog.text
    assert CANARY not in str(reply.content)


@pytest.mark.parametrize("module", ["acf_client.app", "acf_server.app"])
def test_the_app_of_a_message_imports_no_torch(module: str) -> None:
    folders = [Path(__file__).parents[2] / side for side in ("client", "server", "")]
    code = (
        f"import sys; sys.path[:0] = {[str(folder) for folder in folders]};"
        f"import {module}; sys.exit('torch' in sys.modules)"
    )
    # The child knows nothing of pytest's warnings and shape checks.
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
