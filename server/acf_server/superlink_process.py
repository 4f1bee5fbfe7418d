"""Flower's SuperLink, made fit for large models by a few changes to the stock program.

- Pieces of a model lie in files, not in the database (object_files.py), and take a
  short way to them (direct_objects.py). Any other request passes only those of Flower's
  layers that are meant for its path; what the control interface asks for is checked as
  before.
- Answering for a piece writes nothing to the database but that it is there: Flower adds
  up its traffic and looks for expired tasks at each of them, and all sites wait for
  SQLite's one writer. Traffic is counted by the app, and expired tasks are looked for
  once a second.
- SQLite waits for its turn longer than Flower's five seconds, after which a request
  fails, and with it the run; and each of its connections keeps less in memory.

The names that are replaced are held by tests/server/test_flower_contract.py.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore import sql_mixin
from flwr.supercore.object_store import object_store_factory
from flwr.superlink import extensions
from flwr.superlink.cli import flower_superlink
from flwr.superlink.routers.control import middlewares as control
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from acf_server.direct_objects import DirectObjects
from acf_server.object_files import FileObjectStore

PRAGMAS = {"busy_timeout": "60000", "cache_size": "-4000", "mmap_size": "0"}
"""Milliseconds, KiB (negative) a connection, bytes."""
LOOK_FOR_EXPIRED_S = 1.0
CONTROL_PATH = "/v1/control/"
CONTROL_LAYERS = (
    control.ControlSensitiveResponseMiddleware,
    control.ControlAuthenticationMiddleware,
    control.ControlLicenseMiddleware,
    control.ControlEventLogMiddleware,
)
"""They let every path but the control interface's through as it is."""


def set_up_the_database() -> None:
    """Set SQLite's pragmas for every connection that is opened from now on."""
    pragmas = {**dict(vars(sql_mixin)["SQLITE_PRAGMAS"]), **PRAGMAS}
    vars(sql_mixin).update(SQLITE_PRAGMAS=tuple(pragmas.items()))


def write_less_to_the_database() -> None:
    """Keep pieces of models in files, and what is written for each of them small."""
    vars(object_store_factory).update(SqlObjectStore=FileObjectStore)
    look = SqlLinkState._cleanup_expired_task_tokens
    replaced = {
        "store_traffic": _count_no_traffic,
        "_cleanup_expired_task_tokens": _once_in_a_while(look),
    }
    for name, function in replaced.items():
        setattr(SqlLinkState, name, function)


def _count_no_traffic(_: Any, run_id: int, *, bytes_sent: int, bytes_recv: int) -> None:
    """Take what Flower would add up."""


def _once_in_a_while(look: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let a look for expired tasks through once in `LOOK_FOR_EXPIRED_S`."""
    looked = {"at": -LOOK_FOR_EXPIRED_S}

    def look_if_due(state: Any) -> None:
        now = monotonic()
        if now - looked["at"] >= LOOK_FOR_EXPIRED_S:
            looked["at"] = now
            look(state)

    return look_if_due


def pass_idle_layers_by() -> None:
    """Let what does not concern the control interface pass its layers untouched."""
    for layer in CONTROL_LAYERS:
        setattr(layer, "__call__", _only_for_control(layer.__call__))  # noqa: B010


def _only_for_control(
    call: Callable[[Any, Scope, Receive, Send], Awaitable[None]],
) -> Callable[[Any, Scope, Receive, Send], Awaitable[None]]:
    async def pass_or_call(
        layer: Any, scope: Scope, receive: Receive, send: Send
    ) -> None:
        is_other = scope["type"] == "http" and not scope["path"].startswith(
            CONTROL_PATH
        )
        await (
            layer.app(scope, receive, send)
            if is_other
            else call(layer, scope, receive, send)
        )

    return pass_or_call


def answer_objects_directly() -> None:
    """Put the short way for pieces of a model in front of Flower's own layers."""
    vars(extensions).update(get_middleware=lambda: (Middleware(DirectObjects),))


def main() -> None:
    """Run the SuperLink with the options on the command line."""
    set_up_the_database()
    write_less_to_the_database()
    answer_objects_directly()
    pass_idle_layers_by()
    flower_superlink()


if __name__ == "__main__":
    main()
