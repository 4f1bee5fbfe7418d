"""The short way for the pieces of a model through Flower's SuperLink.

Flower takes every request through nine layers and several threads. For a few short
messages a round that is nothing; a model comes as many pieces of some megabytes, and
each layer hands each of them on. Here a request for a piece is read, checked and
answered at once: by the same function of Flower's that says who is asking, and by the
same one that answers.

What is not plainly right is not answered here: it takes Flower's own way from its
beginning, which refuses it in Flower's words. The names that are used are held by
tests/server/test_direct_objects.py.
"""

from collections.abc import Callable
from typing import TypeVar

from fastapi import HTTPException
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.dependencies.version import VersionDependency
from flwr.supercore.error import FlowerError
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.dependencies.linkstate import get_linkstate
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import DecodeError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Answer = Callable[[Request, bytes], bytes]
ObjectRequest = TypeVar("ObjectRequest", PullObjectRequest, PushObjectRequest)

NOT_PLAIN = (
    DecodeError,
    FlowerError,
    HTTPException,
    LookupError,
    RuntimeError,
    SQLAlchemyError,
    ValueError,
)
"""What Flower's functions raise at a wrong request, or when their database fails."""

_check_version = VersionDependency(
    component_name="SuperLink", connection_name="Caller <-> SuperLink Runtime API"
)


class DirectObjects:
    """Answers requests for pieces of a model; lets all others through as they are.

    Args:
        app: Flower's own layers and routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        answer = _answer_for(scope)
        if answer is None:
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            return
        try:
            content = await run_in_threadpool(answer, Request(scope), body)
        except NOT_PLAIN:
            await self._app(scope, _once_more(body, receive), send)
            return
        response = Response(content, media_type=PROTOBUF_MEDIA_TYPE)
        await response(scope, receive, send)


def _answer_for(scope: Scope) -> Answer | None:
    """Return what answers a request; None if it takes Flower's way."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    answer = ANSWERS.get(scope["path"])
    if answer is None:
        return None
    is_plain = Request(scope).headers.get("content-type") == PROTOBUF_MEDIA_TYPE
    return answer if is_plain else None


async def _read_body(receive: Receive) -> bytes | None:
    """Read the whole body; None if the line was cut off before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _once_more(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then what follows it."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return rest.pop() if rest else await receive()

    return next_message


def _from_site(request: Request, message: ObjectRequest, body: bytes) -> ObjectRequest:
    """Read what a site asks for, and check that it is the site that it says."""
    message.ParseFromString(body)
    request.state.protobuf_request = message
    authenticate_node(request)
    return message


def _pull_to_site(request: Request, body: bytes) -> bytes:
    asked = _from_site(request, PullObjectRequest(), body)
    answer = fleet_handlers.pull_object(request=asked, state=get_linkstate(request))
    return bytes(answer.SerializeToString())


def _push_from_site(request: Request, body: bytes) -> bytes:
    asked = _from_site(request, PushObjectRequest(), body)
    answer = fleet_handlers.push_object(request=asked, state=get_linkstate(request))
    return bytes(answer.SerializeToString())


def _from_app(request: Request) -> Task:
    """Check that it is the app of a run that asks."""
    _check_version(request)
    token = request.headers.get(TASK_TOKEN_HEADER)
    return authenticate_task(request, token, get_linkstate(request))


def _pull_to_app(request: Request, body: bytes) -> bytes:
    task, asked = _from_app(request), PullObjectRequest()
    asked.ParseFromString(body)
    answer = runtime_handlers.pull_object(asked, get_linkstate(request), task)
    return bytes(answer.SerializeToString())


def _push_from_app(request: Request, body: bytes) -> bytes:
    task, asked = _from_app(request), PushObjectRequest()
    asked.ParseFromString(body)
    answer = runtime_handlers.push_object(asked, get_linkstate(request), task)
    return bytes(answer.SerializeToString())


ANSWERS: dict[str, Answer] = {
    "/v1/fleet/pull-object": _pull_to_site,
    "/v1/fleet/push-object": _push_from_site,
    "/v1/runtime/pull-object": _pull_to_app,
    "/v1/runtime/push-object": _push_from_app,
}
