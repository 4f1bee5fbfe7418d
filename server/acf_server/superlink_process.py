"""Flower's SuperLink, made fit for large models: two changes to the stock program.

It waits longer for its own database: a model of some hundred megabytes keeps SQLite's
one writer busy for longer than the five seconds that Flower waits; the request then
fails, and with it the run. And a request passes only those of Flower's layers that are
meant for its path: each layer that a piece of a model passes in vain costs time. What
the control interface asks for is checked as before.

The names that are replaced are held by tests/server/test_flower_contract.py.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from flwr.supercore import sql_mixin
from flwr.superlink.cli import flower_superlink
from flwr.superlink.routers.control import middlewares as control
from starlette.types import Receive, Scope, Send

BUSY_TIMEOUT_MS = 60_000
CONTROL_PATH = "/v1/control/"
CONTROL_LAYERS = (
    control.ControlSensitiveResponseMiddleware,
    control.ControlAuthenticationMiddleware,
    control.ControlLicenseMiddleware,
    control.ControlEventLogMiddleware,
)
"""They let every path but the control interface's through as it is."""


def wait_for_the_database() -> None:
    """Raise SQLite's busy timeout for every connection that is opened from now on."""
    pragmas = {**dict(vars(sql_mixin)["SQLITE_PRAGMAS"])}
    pragmas["busy_timeout"] = str(BUSY_TIMEOUT_MS)
    vars(sql_mixin).update(SQLITE_PRAGMAS=tuple(pragmas.items()))


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


def main() -> None:
    """Run the SuperLink with the options on the command line."""
    wait_for_the_database()
    pass_idle_layers_by()
    flower_superlink()


if __name__ == "__main__":
    main()
