"""The site's SuperNode: Flower's connection to the coordinator, without its processes.

It differs from Flower's own program in four things. It answers messages itself
(resident_app.py), so nothing listens on this machine, not even on loopback. It asks for
messages often while a run is going on and seldom otherwise. It logs off a session that
this machine has left behind, where Flower would refuse the site for a minute. And it
sends an answer again that the server could not take.
"""

import json
import platform
import socket
import time
import uuid
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import httpx
from flwr.common.constant import ISOLATION_MODE_PROCESS
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode import start_client_internal as node_loop
from flwr.supernode.cli.flower_supernode import SuperNodeLifespanConfig
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from acf_client.resident_app import answer_in_this_process
from acfnet_core.errors import MachineError
from acfnet_core.files import PRIVATE_MODE, write_atomically
from acfnet_core.flower_environment import flower_home

FIRST_POLL_S = 0.05
SLOWEST_POLL_S = 2.0
POLL_SHARE = 0.05
"""Of the time since the last message: the longer nothing came, the less it matters."""


@dataclass
class Pace:
    """How long to pause before the server is asked again for a message."""

    last_message: float = field(default_factory=time.monotonic)

    def sleep(self, longest_s: float) -> None:
        """Pause; stands in for `time.sleep` in Flower's loop."""
        idle_s = time.monotonic() - self.last_message
        pause_s = max(FIRST_POLL_S, min(POLL_SHARE * idle_s, SLOWEST_POLL_S))
        time.sleep(min(pause_s, longest_s))


class SiteNodeState(InMemoryNodeState):
    """Flower's state of a node, which tells us of its session and of each message."""

    def __init__(
        self, objects: ObjectStoreFactory, *, session_file: Path, pace: Pace
    ) -> None:
        super().__init__(objects.store())
        self._session_file = session_file
        self._pace = pace

    def set_node_id(self, node_id: int | None) -> None:
        """Take the session's id, and keep it for the next start."""
        super().set_node_id(node_id)
        session = json.dumps({"node_id": node_id, "machine": this_machine()})
        write_atomically(self._session_file, session.encode(), mode=PRIVATE_MODE)

    def delete_messages(self, *, message_ids: object = None) -> None:
        """Forget messages: Flower does so when one was answered."""
        super().delete_messages(message_ids=message_ids)  # type: ignore[arg-type]
        self._pace.last_message = time.monotonic()


@dataclass(frozen=True)
class _OneState:
    """Flower's factories of a node's state and objects, with the ones it has."""

    objectstore_factory: ObjectStoreFactory
    _state: SiteNodeState

    def state(self) -> SiteNodeState:
        """Return the one state."""
        return self._state


def this_machine() -> str:
    """Return what tells this machine from one that a site's folder was copied to."""
    return f"{socket.gethostname()} {platform.machine()} {uuid.getnode():x}"


def end_earlier_session(config: SuperNodeLifespanConfig, session_file: Path) -> None:
    """Log off the session of a SuperNode that was killed on this very machine.

    Flower takes such a node for connected until two heartbeats are missed, and refuses
    it until then. The session of another machine is left alone: a copy of a site's
    folder must not push the site out.
    """
    try:
        session = json.loads(session_file.read_bytes())
        node_id, machine = int(session["node_id"]), session["machine"]
    except (OSError, ValueError, TypeError, LookupError):
        return
    if machine != this_machine() or config.authentication_keys is None:
        return
    try:
        with FleetHttpClient.from_server_address(
            config.server_address,
            config.insecure,
            config.root_certificates,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(*config.authentication_keys),
            ],
        ) as client:
            client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
    except (httpx.HTTPError, RuntimeError):
        # It had ended properly, or the server is away: Flower's loop finds out.
        return


def look_for_parts_often() -> None:
    """Ask soon again for a part of a message that the other side is still sending.

    Flower waits a second the first time, which a short round often costs twice.
    """
    (pull_objects.__kwdefaults__ or {}).update(
        initial_backoff=FIRST_POLL_S,
        backoff_cap=SLOWEST_POLL_S,
        max_tries_per_object=None,
    )


def run_node(config: SuperNodeLifespanConfig, session_file: Path) -> None:
    """Hold the connection and answer messages until the process is ended."""
    pace = Pace()
    look_for_parts_often()
    # Flower's loop uses nothing of `time` but `sleep`.
    vars(node_loop).update(time=SimpleNamespace(sleep=pace.sleep))
    answer_in_this_process()
    end_earlier_session(config, session_file)
    objects = ObjectStoreFactory()
    state = SiteNodeState(objects, session_file=session_file, pace=pace)
    node_loop.start_client_internal(
        state_factory=_OneState(objects, state),  # type: ignore[arg-type]
        server_address=config.server_address,
        root_certificates=config.root_certificates,
        insecure=config.insecure,
        authentication_keys=config.authentication_keys,
        max_retries=config.max_retries,
        max_wait_time=config.max_wait_time,
        node_config=config.node_config,
        # Flower then starts no process for the messages.
        isolation=ISOLATION_MODE_PROCESS,
        trusted_entities=config.trusted_entities,
    )


def main() -> None:
    """Run the SuperNode with the options on the command line."""
    # The package gives the name of this module to a function in it.
    program = import_module("flwr.supernode.cli.flower_supernode")
    parse = vars(program)["_parse_supernode_lifespan_config"]
    home = flower_home()
    if home is None:
        raise MachineError(
            "machine.folder_unwritable",
            "FLWR_HOME is not set: the SuperNode has no folder.",
            remedy="Start the site with `acf-client start`.",
        )
    run_node(parse(), home / "session.json")


if __name__ == "__main__":
    main()
