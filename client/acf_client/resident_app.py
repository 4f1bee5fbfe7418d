"""Answering Flower's messages inside the SuperNode, with the installed app.

Flower would unpack the bundle that the server sent and start a process that runs it,
for every message: a second of processor time, and code that nobody here has read. Here
the bundle is compared with the installed one, never unpacked, and the message is given
to the app that is installed, which hands it to the trainer.

The names of Flower that are used here are held by tests/server/test_flower_contract.py.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from time import sleep
from typing import Any, ParamSpec, TypeVar

import httpx
from flwr.app import Message
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import Status, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import start_client_internal as node_loop
from flwr.supernode.nodestate import NodeState

from acf_client.app import app, refuse
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.bundle import bundle_folder

logger = logging.getLogger(__name__)

SEND_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0)
"""Pauses before an answer is sent again that the server did not take; after that the
server asks again by itself, and the same answer is worked out once more."""

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")
Send = Callable[[Message, ObjectTree, float], tuple[set[str], str]]
PushObject = Callable[[int, str, str, bytes], None]


def answer_in_this_process() -> None:
    """Have Flower's loop answer a message itself before it sends what was answered.

    Where the server fails it tries again, in place of losing the message.
    """
    push_replies: Callable[..., None] = vars(node_loop)["_push_messages"]

    def answer_and_push(
        state: NodeState,
        object_store: ObjectStore,
        send: Send,
        push_object: PushObject,
    ) -> None:
        answer_messages(state, object_store)
        push_replies(
            state=state,
            object_store=object_store,
            send=persistent(send),
            push_object=persistent(push_object),
        )

    pull_message: Callable[..., int | None] = vars(node_loop)["_pull_and_store_message"]

    def pull_persistently(**calls: Any) -> int | None:
        lasting = ("receive", "get_run", "get_fab", "pull_object")
        return pull_message(
            **{
                name: persistent(call) if name in lasting else call
                for name, call in calls.items()
            }
        )

    vars(node_loop).update(
        _push_messages=answer_and_push, _pull_and_store_message=pull_persistently
    )


def answer_messages(state: NodeState, object_store: ObjectStore) -> None:
    """Put an answer to every waiting message into the node's state."""
    for envelope in state.get_messages_legacy(is_reply=False):
        message_id = envelope.metadata.message_id
        state.record_message_processing_start(message_id)
        message = open_message(message_id, object_store)
        reply = answer(message, state)
        state.record_message_processing_end(message_id)
        insert: Callable[..., None] = vars(node_loop)["_insert_message"]
        insert(reply, state, object_store)
        # Flower keeps a task for each message, for a process that never comes.
        for task in state.get_tasks(statuses=[Status.PENDING]):
            state.finish_task(task.task_id, SubStatus.STOPPED, "")


def open_message(message_id: str, object_store: ObjectStore) -> Message:
    """Take a message with all of its content out of the store."""
    tree = object_store.get_object_tree(message_id)
    contents: dict[str, bytes] = {}
    for part in iterate_object_tree(tree):
        content = object_store.get(part.object_id)
        if content is None:
            raise ValueError("Flower's store lacks a part of the message")
        contents[part.object_id] = content
    object_store.delete(message_id)
    message: Any = inflate_object_from_contents(message_id, contents)
    if not isinstance(message, Message):
        raise TypeError("Flower's store held no message")
    message.metadata.__dict__["_message_id"] = message_id
    return message


def answer(message: Message, state: NodeState) -> Message:
    """Return the installed app's answer, or the code of why there is none."""
    try:
        run = state.get_run(message.metadata.run_id)
        bundle = None if run is None else state.get_fab(run.fab_hash)
        context = None if run is None else state.get_run_series_context(run.series_id)
        check_bundle(b"" if bundle is None else bundle.content)
        if context is None:
            return refuse(message, "protocol.site_failed")
        return app(message=message, context=context)
    except AcfnetError as error:
        logger.error("The round was not done: %s", error.message)  # noqa: TRY400
        return refuse(message, error.code)


def check_bundle(content: bytes) -> None:
    """Refuse every bundle but the installed one.

    Raises:
        ProtocolError: `protocol.bundle_refused`.
    """
    if hashlib.sha256(content).digest() != _installed_bundle():
        raise ProtocolError(
            "protocol.bundle_refused",
            "The server sent a Flower bundle that is not the one installed here.",
            remedy="Install the same acfnet version on both sides; if it is the same, "
            "tell your security officer.",
        )


def persistent(send: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
    """Make a sending that tries again when the server fails.

    Flower logs a failure of the server and throws the answer away.
    """

    def send_until_taken(*args: Asked.args, **options: Asked.kwargs) -> Answer:
        for pause_s in SEND_AGAIN_S:
            try:
                return send(*args, **options)
            except httpx.HTTPError as error:
                logger.warning("Not sent (%s); again soon", type(error).__name__)
                sleep(pause_s)
        return send(*args, **options)

    return send_until_taken


@cache
def _installed_bundle() -> bytes:
    return hashlib.sha256(build_fab_from_disk(bundle_folder())).digest()
