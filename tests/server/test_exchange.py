from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from numpy.typing import NDArray
from references.flower_task import be_a_flower_task, set_message_id

import acf_server.exchange as exchange_module
from acf_server.answers import RawAnswer, failure_code
from acf_server.exchange import FlowerExchange, read_answer
from acf_server.run_events import RunEvent, WaitingForSites
from acfnet_core.federation.messages import (
    DOCUMENT,
    FAILURE,
    PARAMETERS,
    REPLY,
    REQUEST,
    RoundRequest,
)

NODES = {"hospital-a": 11, "hospital-b": 12, "hospital-c": 13}
BASE = np.arange(6, dtype=np.float32)
SERVER_NODE_ID = 1
FLOWER_ERROR = 3


@dataclass
class FakeGrid(Grid):
    """Flower's network in memory.

    Attributes:
        online: Site -> node id, of the sites that are connected.
        answers: Node id -> what the node answers, or one answer after the other; a
            node without one is silent.
        strangers: Messages that come although nobody asked for them.
        refused: Node ids for which Flower takes no message.
    """

    online: dict[str, int] = field(default_factory=lambda: dict(NODES))
    answers: dict[int, Any] = field(default_factory=dict)
    strangers: list[Message] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    takes_nothing: bool = False
    sessions: dict[str, Iterator[str]] = field(default_factory=dict)
    pushed: list[Message] = field(default_factory=list)
    asked: int = 0

    def get_nodes(self) -> Iterable[NodeInfo]:
        self.asked += 1
        for name, node_id in self.online.items():
            yield NodeInfo(
                node_id=node_id,
                name=name,
                status="online",
                last_activated_at=self.session(name),
            )
        yield NodeInfo(node_id=99, name="stranger", status="online")
        yield NodeInfo(node_id=98, name="hospital-c", status="offline")

    def session(self, name: str) -> str:
        """When the node connected: again each time it is asked, or once and for all."""
        return next(self.sessions.get(name, iter(())), "then")

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if self.takes_nothing:
            return []
        ids = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            set_message_id(message, f"message-{len(self.pushed)}-to-{node_id}")
            self.pushed.append(message)
            ids.append("" if node_id in self.refused else message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        yield from self.strangers
        self.strangers = []
        wanted = set(message_ids)
        for message in reversed(self.pushed):
            answer = self.answers.get(message.metadata.dst_node_id)
            if isinstance(answer, list) and message.metadata.message_id in wanted:
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if message.metadata.message_id in wanted and answer is not None:
                yield self._reply(message, answer)

    @staticmethod
    def _reply(message: Message, answer: RecordDict | Error) -> Message:
        if isinstance(answer, RecordDict):
            return Message(answer, reply_to=message)
        lost = Message(answer, reply_to=message)
        # Flower itself speaks for a node that is gone, under the id of the server.
        lost.metadata.__dict__["_src_node_id"] = SERVER_NODE_ID
        return lost

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_flower_task(monkeypatch)
    monkeypatch.setattr(exchange_module, "FIRST_POLL_S", 0.001)
    monkeypatch.setattr(exchange_module, "SLOWEST_POLL_S", 0.005)
    monkeypatch.setattr(exchange_module, "NODES_POLL_S", 0.0)
    monkeypatch.setattr(exchange_module, "FIRST_PAUSE_S", 0.001)


def make_reply(text: str, values: NDArray[np.generic] | None = BASE) -> RecordDict:
    content = RecordDict({REPLY: ConfigRecord({DOCUMENT: text})})
    if values is not None:
        content[PARAMETERS] = ArrayRecord({PARAMETERS: Array(values)})
    return content


def all_answer() -> dict[int, Any]:
    return {node_id: make_reply(f"of {name}") for name, node_id in NODES.items()}


def make_request() -> RoundRequest:
    return RoundRequest(
        run="trial",
        round=2,
        num_rounds=3,
        trains=True,
        seed=1,
        contract_sha256="0" * 64,
        layout_sha256="1" * 64,
        base_sha256="2" * 64,
        model={},
        training={},
        loss={},
    )


def exchange(
    grid: FakeGrid,
    *,
    minimum_sites: int = 3,
    timeout_s: float = 0.05,
    events: list[RunEvent] | None = None,
) -> dict[str, RawAnswer]:
    sites = tuple(NODES)
    announce = [] if events is None else events
    whole = FlowerExchange(grid, sites, minimum_sites, timeout_s, announce.append)
    answers = list(whole(make_request(), BASE))
    assert sorted(answer.site for answer in answers) == sorted(sites)
    return {answer.site: answer for answer in answers}


def answer_of(content: RecordDict) -> RawAnswer:
    """Read one answer as it comes from a site."""
    instruction = Message(RecordDict(), dst_node_id=11, message_type="train")
    message = Message(content, reply_to=instruction)
    return read_answer(message, "hospital-a", seconds=0.0)


def test_every_answer_is_given_to_the_site_that_was_asked() -> None:
    answers = exchange(FakeGrid(answers=all_answer()))
    assert {site: a.reply for site, a in answers.items()} == {
        site: f"of {site}" for site in NODES
    }


def test_a_request_carries_the_document_and_the_parameters_alone() -> None:
    grid = FakeGrid(answers=all_answer())
    exchange(grid)
    content = grid.pushed[0].content
    assert {name: set(record) for name, record in content.items()} == {
        REQUEST: {DOCUMENT},
        PARAMETERS: {PARAMETERS},
    }
    document = str(content.config_records[REQUEST][DOCUMENT])
    assert RoundRequest.model_validate_json(document) == make_request()


def test_a_question_travels_without_parameters() -> None:
    grid = FakeGrid(answers=all_answer())
    whole = FlowerExchange(grid, tuple(NODES), 3, 0.05, lambda event: None)
    assert {a.reply for a in whole.ask("a question")} == {f"of {s}" for s in NODES}
    assert set(grid.pushed[0].content) == {REQUEST}


def test_an_error_of_flower_is_matched_by_the_message_it_replies_to() -> None:
    error = Error(FLOWER_ERROR, "a reason")
    answers = exchange(FakeGrid(answers={**all_answer(), 12: error}))
    assert answers["hospital-b"].code == "protocol.flower_failed"
    assert answers["hospital-a"].reply == "of hospital-a"


def test_a_silent_site_is_late() -> None:
    replies = all_answer()
    del replies[13]
    answers = exchange(FakeGrid(answers=replies))
    assert answers["hospital-c"].code == "protocol.site_timeout"
    assert answers["hospital-c"].seconds >= 0.05


def test_replies_to_other_messages_are_ignored() -> None:
    other = Message(RecordDict(), dst_node_id=11, message_type="train")
    set_message_id(other, "of another round")
    stray = Message(make_reply("a stray"), reply_to=other)
    answers = exchange(FakeGrid(answers=all_answer(), strangers=[stray]))
    assert answers["hospital-a"].reply == "of hospital-a"


@pytest.mark.parametrize("takes_nothing", [False, True])
def test_a_site_that_flower_sends_nothing_to_has_a_code(takes_nothing: bool) -> None:
    grid = FakeGrid(answers=all_answer(), refused={12}, takes_nothing=takes_nothing)
    assert exchange(grid)["hospital-b"].code == "protocol.flower_failed"


def test_a_missing_site_is_announced_once() -> None:
    grid = FakeGrid(online={"hospital-a": 11, "hospital-b": 12}, answers=all_answer())
    events: list[RunEvent] = []
    exchange(grid, minimum_sites=2, events=events)
    assert grid.asked > 2
    assert events == [WaitingForSites(missing=("hospital-c",))]


def test_the_round_goes_on_without_a_missing_site_when_enough_are_there() -> None:
    grid = FakeGrid(online={"hospital-a": 11, "hospital-b": 12}, answers=all_answer())
    answers = exchange(grid, minimum_sites=2)
    assert answers["hospital-c"].code == "protocol.site_timeout"
    assert answers["hospital-b"].reply == "of hospital-b"


def test_a_missing_site_is_not_waited_for_when_enough_have_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "REJOIN_S", 0.01)
    grid = FakeGrid(online={"hospital-a": 11, "hospital-b": 12}, answers=all_answer())
    answers = exchange(grid, minimum_sites=2, timeout_s=60.0)
    assert answers["hospital-c"].code == "protocol.site_timeout"
    assert answers["hospital-c"].seconds < 30.0


@pytest.mark.parametrize(
    "failure",
    [
        Error(FLOWER_ERROR),
        RecordDict(
            {
                FAILURE: ConfigRecord(
                    {DOCUMENT: '{"code": "protocol.trainer_unreachable"}'}
                )
            }
        ),
    ],
)
def test_a_failure_that_may_pass_is_asked_again_in_the_same_round(
    failure: RecordDict | Error,
) -> None:
    grid = FakeGrid(answers={**all_answer(), 12: [failure, make_reply("at last")]})
    events: list[RunEvent] = []
    answers = exchange(grid, timeout_s=5.0, events=events)
    assert answers["hospital-b"].reply == "at last"
    assert [event.kind for event in events] == ["site_asked_again"]
    assert len(grid.pushed) == 4


def test_a_failure_that_stays_is_not_asked_again() -> None:
    no_data = RecordDict(
        {FAILURE: ConfigRecord({DOCUMENT: '{"code": "data.no_events"}'})}
    )
    grid = FakeGrid(answers={**all_answer(), 12: no_data})
    answers = exchange(grid, timeout_s=5.0)
    assert failure_code(answers["hospital-b"]) == "data.no_events"
    assert len(grid.pushed) == 3


def test_a_site_that_has_connected_anew_is_asked_again() -> None:
    replies = all_answer()
    del replies[12]
    sessions = {"hospital-b": iter(["then", "then", "now"])}
    grid = FakeGrid(answers=replies, sessions=sessions)
    exchange(grid)
    to_b = [m for m in grid.pushed if m.metadata.dst_node_id == 12]
    assert len(to_b) > 1


def test_a_site_that_connects_late_takes_part() -> None:
    class Late(FakeGrid):
        def get_nodes(self) -> Iterable[NodeInfo]:
            late = self.asked > 3
            nodes = list(super().get_nodes())
            return nodes if late else [n for n in nodes if n.name != "hospital-a"]

    answers = exchange(Late(answers=all_answer()), timeout_s=5.0)
    assert answers["hospital-a"].reply == "of hospital-a"


def test_parameters_arrive_as_they_were_sent() -> None:
    values = answer_of(make_reply("a reply", BASE / 3)).parameters
    assert values is not None
    assert np.array_equal(values, BASE / 3)


@pytest.mark.parametrize(
    "values",
    [
        BASE.astype(np.float64),
        BASE.astype(">f4"),
        BASE.reshape(2, 3),
        np.ones((), np.float32),
        np.array(["a", "b"]),
    ],
)
def test_anything_but_a_float32_vector_counts_as_no_parameters(
    values: NDArray[np.generic],
) -> None:
    assert answer_of(make_reply("a reply", values)).parameters is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(200),
        b"\x80\x04" + bytes(200),
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, "
        b"'shape': (99999999999999,), }" + b" " * 60,
    ],
)
def test_hostile_bytes_count_as_no_parameters(content: bytes) -> None:
    array = Array(dtype="float32", shape=(6,), stype="numpy.ndarray", data=content)
    reply = make_reply("a reply", None)
    reply[PARAMETERS] = ArrayRecord({PARAMETERS: array})
    assert answer_of(reply).parameters is None


def test_a_document_that_is_no_text_counts_as_none() -> None:
    content = RecordDict({FAILURE: ConfigRecord({DOCUMENT: b"bytes"})})
    answer = answer_of(content)
    assert (answer.reply, answer.failure, answer.code) == (None, None, None)
