"""Running a site: its trainer and Flower's SuperNode, started and ended together."""

import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acf_client.enrolment import require_enrolment
from acf_client.site import Site
from acf_client.trainer_link import SOCKET_VARIABLE
from acfnet_core.cohort.contract import load_contract
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.errors import MachineError, ProtocolError
from acfnet_core.files import held_lock, make_folder, write_atomically
from acfnet_core.flower_environment import flower_environment
from acfnet_core.processes import (
    Child,
    start_child,
    stop_children,
    wait_until,
)

TRAINER_TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 180.0
LOCK_NAME = "running.lock"
_CONNECTED = b"SuperNode ID:"
"""What Flower's SuperNode logs once the coordinator has accepted it."""


@contextmanager
def running_site(site: Site) -> Iterator[list[Child]]:
    """Run the site's trainer and SuperNode; ends both when the block is left.

    The block is entered when the trainer has the data and the coordinator has accepted
    the node.

    Raises:
        IdentityError: The site is not enrolled.
        DataError: Its data is not prepared.
        MachineError: It is running already, or a process died or was not ready in time.
    """
    address = require_enrolment(site).address
    contract = load_contract(site.contract_path)
    open_store(site.prepared_folder, contract=contract, mapping=site.table_mapping)
    children: list[Child] = []
    with held_lock(site.folder / LOCK_NAME, what="this site"):
        # A crash may have left it behind; while we hold the lock nobody listens there.
        site.trainer_socket.unlink(missing_ok=True)
        try:
            yield from _run(site, address, children)
        finally:
            stop_children(children)


def _run(site: Site, address: str, children: list[Child]) -> Iterator[list[Child]]:
    """Start both, one after the other, and hand them over."""
    children.append(_start_trainer(site))
    wait_until(
        site.trainer_socket.exists, children=children, timeout_s=TRAINER_TIMEOUT_S
    )
    children.append(_start_supernode(site, address))
    _wait_for_coordinator(children, address)
    yield children


def free_loopback_port() -> int:
    """Return a port that was free a moment ago, for Flower's local interface."""
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_trainer(site: Site) -> Child:
    return start_child(
        "trainer",
        [sys.executable, "-m", "acf_client.trainer", str(site.folder)],
        log_file=site.logs_folder / "trainer.log",
    )


def _start_supernode(site: Site, address: str) -> Child:
    home = make_folder(site.folder / "flower", private=True)
    environment = flower_environment(home)
    programs = _write_programs(make_folder(home / "bin", private=True))
    environment["PATH"] = os.pathsep.join([str(programs), environment["PATH"]])
    environment[SOCKET_VARIABLE] = str(site.trainer_socket)
    return start_child(
        "SuperNode",
        [
            *(sys.executable, "-m", "acf_client.supernode_process"),
            *("--superlink", address),
            *("--root-certificates", str(site.root_path)),
            *("--auth-supernode-private-key", str(site.node_key_path)),
            *("--host", "127.0.0.1", "--port", str(free_loopback_port())),
        ],
        log_file=_fresh_log(site.logs_folder / "supernode.log"),
        environment=environment,
    )


def _write_programs(folder: Path) -> Path:
    """Write our `flwr-clientapp`, which Flower finds before its own.

    See clientapp_process.py for what it does differently.
    """
    python = shlex.quote(sys.executable)
    script = f'#!/bin/sh\nexec {python} -m acf_client.clientapp_process "$@"\n'
    write_atomically(folder / "flwr-clientapp", script.encode(), mode=0o700)
    return folder


def _fresh_log(path: Path) -> Path:
    """Keep one earlier log: whether the node is connected is read from the new one."""
    if path.exists():
        path.replace(path.with_suffix(".previous.log"))
    return path


def _wait_for_coordinator(children: list[Child], address: str) -> None:
    node = children[-1]
    try:
        wait_until(
            lambda: _CONNECTED in node.log_file.read_bytes(),
            children=children,
            timeout_s=CONNECT_TIMEOUT_S,
        )
    except MachineError as error:
        if node.has_ended:
            raise ProtocolError(
                "protocol.site_not_accepted",
                f"The coordinator at {address} did not accept this site. Either the "
                "site has not been approved (or the server was not started since), or "
                "the same site was killed less than 60 seconds ago, or this machine's "
                "clock is wrong.",
                remedy="Wait a minute and start again; then ask the coordinator; "
                f"details: {node.log_file}",
            ) from error
        raise
