"""The short way for pieces of a model, held against Flower's own way."""

import asyncio
from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from flwr.app import Array
from flwr.common.constant import SUPERLINK_NODE_ID, TIMESTAMP_HEADER
from flwr.proto.message_pb2 import (
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    NOOP_FEDERATION_ID,
    TASK_TOKEN_HEADER,
    TaskType,
)
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink import extensions
from flwr.superlink.main import create_app
from httpx import ASGITransport, AsyncClient, Response
from starlette.middleware import Middleware

from acf_server.direct_objects import ANSWERS, DirectObjects

PULL = "/v1/fleet/pull-object"
PUSH = "/v1/fleet/push-object"
APP_PULL = "/v1/runtime/pull-object"
APP_PUSH = "/v1/runtime/push-object"
ARRAY = Array(np.arange(10, dtype=np.float32))


@dataclass(frozen=True)
class Way:
    """A way to the server's app, in this process."""

    app: FastAPI

    def send(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Response:
        async def send() -> Response:
            transport = ASGITransport(self.app)
            async with AsyncClient(transport=transport, base_url="https://a") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(send())


@dataclass(frozen=True, kw_only=True)
class World:
    """A server with one site and one run, reached by both ways."""

    direct: Way
    flower: Way
    key: ec.EllipticCurvePrivateKey
    node_id: int
    run_id: int
    session_id: str
    token: str

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.direct, self.flower

    def site_headers(self) -> dict[str, str]:
        told = now().isoformat()
        return {
            "content-type": PROTOBUF_MEDIA_TYPE,
            TIMESTAMP_HEADER: told,
            FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(
                public_key_to_bytes(self.key.public_key())
            ).decode(),
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(
                sign_message(self.key, told.encode())
            ).decode(),
        }

    def app_headers(self) -> dict[str, str]:
        return {"content-type": PROTOBUF_MEDIA_TYPE, TASK_TOKEN_HEADER: self.token}

    def pull(self, **changes: Any) -> bytes:
        asked: dict[str, Any] = {
            "node": Node(node_id=self.node_id),
            "run_id": self.run_id,
            "object_id": ARRAY.object_id,
            **changes,
        }
        return PullObjectRequest(**asked).SerializeToString()

    def push(self, **changes: Any) -> bytes:
        asked: dict[str, Any] = {
            "node": Node(node_id=self.node_id),
            "run_id": self.run_id,
            "session_id": self.session_id,
            "object_id": ARRAY.object_id,
            "object_content": ARRAY.deflate(),
            **changes,
        }
        return PushObjectRequest(**asked).SerializeToString()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    flower = create_app()
    monkeypatch.setitem(
        vars(extensions), "get_middleware", lambda: (Middleware(DirectObjects),)
    )
    direct = create_app()
    share_state(direct, flower)
    key = ec.generate_private_key(ec.SECP384R1())
    state = flower.state.linkstate_factory.state()
    node_id = state.create_node(
        "owner", "owner", public_key_to_bytes(key.public_key()), 30.0
    )
    state.acknowledge_node_heartbeat(node_id, 30.0)
    run_id = state.create_run(
        None, None, None, {}, NOOP_FEDERATION_ID, None, "owner", TaskType.SERVER_APP
    )
    task_id = state.get_run_info(run_ids=[run_id])[0].primary_task_id
    token = state.claim_task(task_id)
    assert token is not None
    state.activate_task(task_id)
    session_id = state.start_session(run_id)
    state.preregister_object_tree(get_object_tree(ARRAY), session_id)
    return World(
        direct=Way(direct),
        flower=Way(flower),
        key=key,
        node_id=node_id,
        run_id=run_id,
        session_id=session_id,
        token=token,
    )


def share_state(app: FastAPI, other: FastAPI) -> None:
    """Give an app the state of another one."""
    for name in ("linkstate_factory", "runtime_state_factory"):
        setattr(app.state, name, getattr(other.state, name))


def ask(way: Way, path: str, body: bytes, headers: dict[str, str]) -> Response:
    return way.send("POST", path, body, headers)


def pulled(response: Response) -> PullObjectResponse:
    assert response.status_code == 200
    assert response.headers["content-type"] == PROTOBUF_MEDIA_TYPE
    return PullObjectResponse.FromString(response.content)


def pushed(response: Response) -> bool:
    assert response.status_code == 200
    return PushObjectResponse.FromString(response.content).stored


def alike(one: Response, other: Response) -> bool:
    """Tell whether two answers say the same."""
    names = ("content-type", "content-length")
    return (
        one.status_code == other.status_code
        and one.content == other.content
        and all(one.headers.get(name) == other.headers.get(name) for name in names)
    )


def test_a_site_pushes_and_pulls_a_piece(world: World) -> None:
    assert pushed(ask(world.direct, PUSH, world.push(), world.site_headers()))
    answers = [ask(way, PULL, world.pull(), world.site_headers()) for way in world.ways]
    assert alike(*answers)
    assert pulled(answers[0]).object_content == ARRAY.deflate()


def test_the_app_pushes_and_pulls_a_piece(world: World) -> None:
    server = {"node": Node(node_id=SUPERLINK_NODE_ID)}
    assert pushed(
        ask(world.direct, APP_PUSH, world.push(**server), world.app_headers())
    )
    answers = [
        ask(way, APP_PULL, world.pull(**server), world.app_headers())
        for way in world.ways
    ]
    assert alike(*answers)
    assert pulled(answers[0]).object_content == ARRAY.deflate()


def test_a_piece_that_is_to_come_is_found_and_not_available(world: World) -> None:
    answer = pulled(ask(world.direct, PULL, world.pull(), world.site_headers()))
    assert (answer.object_found, answer.object_available) == (True, False)


def test_what_is_plain_does_not_reach_flowers_layers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, PULL, lambda *_: b"directly")
    answer = ask(world.direct, PULL, world.pull(), world.site_headers())
    assert answer.content == b"directly"


WRONG = {
    "no signature": (FLEET_HTTP_SIGNATURE_HEADER, None),
    "a signature that is none": (FLEET_HTTP_SIGNATURE_HEADER, "AAAA"),
    "a signature that is not base64": (FLEET_HTTP_SIGNATURE_HEADER, "!"),
    "no key": (FLEET_HTTP_PUBLIC_KEY_HEADER, None),
    "a key that is none": (FLEET_HTTP_PUBLIC_KEY_HEADER, "AAAA"),
    "no time": (TIMESTAMP_HEADER, None),
    "a time that is none": (TIMESTAMP_HEADER, "yesterday"),
    "a time long ago": (TIMESTAMP_HEADER, "2020-01-01T00:00:00+00:00"),
    "another kind of content": ("content-type", "application/json"),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("path", [PULL, PUSH])
def test_a_wrong_header_of_a_site_is_refused_as_by_flower(
    world: World, path: str, fault: str
) -> None:
    name, value = WRONG[fault]
    headers = world.site_headers()
    headers.pop(name)
    if value is not None:
        headers[name] = value
    body = world.pull() if path == PULL else world.push()
    answers = [ask(way, path, body, headers) for way in world.ways]
    assert alike(*answers)
    assert answers[0].status_code in {401, 415}


def test_a_stranger_with_a_key_of_its_own_is_refused(world: World) -> None:
    stranger = replace(world, key=ec.generate_private_key(ec.SECP384R1()))
    answers = [
        ask(way, PULL, world.pull(), stranger.site_headers()) for way in world.ways
    ]
    assert alike(*answers)
    assert answers[0].status_code == 401


def test_a_site_that_says_it_is_another_is_refused(world: World) -> None:
    body = world.pull(node=Node(node_id=world.node_id + 1))
    answers = [ask(way, PULL, body, world.site_headers()) for way in world.ways]
    assert alike(*answers)
    assert answers[0].status_code == 401


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize("path", [APP_PULL, APP_PUSH])
def test_a_wrong_token_is_refused_as_by_flower(
    world: World, path: str, token: str
) -> None:
    headers = {**world.app_headers(), TASK_TOKEN_HEADER: token}
    body = world.pull() if path == APP_PULL else world.push()
    answers = [ask(way, path, body, headers) for way in world.ways]
    assert alike(*answers)
    assert answers[0].status_code == 401


@pytest.mark.parametrize("path", list(ANSWERS))
def test_a_body_that_is_no_message_is_refused_as_by_flower(
    world: World, path: str
) -> None:
    is_apps = path.startswith("/v1/runtime")
    headers = world.app_headers() if is_apps else world.site_headers()
    answers = [ask(way, path, b"\xff\xff\xff", headers) for way in world.ways]
    assert alike(*answers)
    assert 400 <= answers[0].status_code < 500


def test_a_run_that_is_none_is_refused_as_by_flower(world: World) -> None:
    body = world.pull(run_id=world.run_id + 1)
    answers = [ask(way, PULL, body, world.site_headers()) for way in world.ways]
    assert alike(*answers)
    assert answers[0].status_code >= 400


def test_the_app_cannot_pose_as_a_site(world: World) -> None:
    answers = [
        ask(way, APP_PULL, world.pull(), world.app_headers()) for way in world.ways
    ]
    assert alike(*answers)
    assert answers[0].status_code >= 400


def test_a_wrong_piece_is_not_stored(world: World) -> None:
    body = world.push(object_content=b"of another kind")
    assert not pushed(ask(world.direct, PUSH, body, world.site_headers()))


def test_what_is_no_piece_takes_flowers_way(world: World) -> None:
    for path in ("/health", "/v1/fleet/pull-messages", "/v1/fleet/pull-object/x"):
        answers = [way.send("GET", path, b"", {}) for way in world.ways]
        assert alike(*answers)
