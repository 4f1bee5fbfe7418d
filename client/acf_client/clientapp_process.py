"""The process that Flower starts for each message, with two doors of it closed.

Flower runs whatever bundle the server sends, from the bundle before the installed
packages, and sends the text of an exception back. Here a bundle is run only if it is
the very one that this installation carries, which names the installed app and holds no
code; and an error that Flower meets outside our app leaves without its text.

`acf-client start` puts a program `flwr-clientapp` that calls this module first on the
SuperNode's PATH. The names of Flower that are replaced are held by
tests/server/test_flower_contract.py.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Error
from flwr.cli.build import build_fab_from_disk
from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
from flwr.supernode.runtime import run_clientapp as task

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.bundle import bundle_folder


def check_bundle(content: bytes | Path) -> None:
    """Refuse every bundle but the installed one.

    Raises:
        ProtocolError: `protocol.bundle_refused`.
    """
    received = content.read_bytes() if isinstance(content, Path) else content
    installed = build_fab_from_disk(bundle_folder())
    if hashlib.sha256(received).digest() != hashlib.sha256(installed).digest():
        raise ProtocolError(
            "protocol.bundle_refused",
            "The server sent a Flower bundle that is not the one installed here.",
            remedy="Install the same acfnet version on both sides; if it is the same, "
            "tell your security officer.",
        )


def without_reason(code: int, reason: str | None = None) -> Error:
    """Make Flower's error reply: its code, and not the text of an exception."""
    del reason
    return Error(code=code)


def close_doors() -> None:
    """Replace the two functions in Flower's task."""
    install: Callable[..., Any] = vars(task)["install_from_fab"]

    def install_checked(content: bytes | Path, *args: Any, **options: Any) -> Any:
        check_bundle(content)
        return install(content, *args, **options)

    vars(task).update(install_from_fab=install_checked, Error=without_reason)


def main() -> None:
    """Run Flower's task for one message."""
    close_doors()
    flwr_clientapp()


if __name__ == "__main__":
    main()
