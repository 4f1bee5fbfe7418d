"""Starting Flower's server: one SuperLink and one SuperExec, on loopback, with TLS.

The two are separate processes ("process isolation"): the SuperLink keeps messages and
knows the sites' keys, the SuperExec starts our ServerApp for a run and must show a
secret for it. Telemetry, update checks and installing dependencies at run time are off.
"""

import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from acf_server.control import Control, FlowerServer, is_healthy
from acf_server.coordinator import Coordinator
from acf_server.pki import is_renewal_due, renew_server_certificate
from acfnet_core.errors import MachineError
from acfnet_core.files import (
    PRIVATE_MODE,
    held_lock,
    make_folder,
    write_atomically,
)
from acfnet_core.flower_environment import flower_environment, flower_program
from acfnet_core.identity.names import split_address
from acfnet_core.processes import Child, start_child, wait_until
from acfnet_core.supervision import Supervisor, Tell

START_TIMEOUT_S = 120.0
LOCK_NAME = "running.lock"


def flower_server(coordinator: Coordinator) -> FlowerServer:
    """Return where the coordinator's SuperLink listens."""
    return FlowerServer(
        port=coordinator.config.listen_port,
        root_certificate=coordinator.pki.root_certificate,
    )


@contextmanager
def running_server(coordinator: Coordinator, *, tell: Tell) -> Iterator[Supervisor]:
    """Run the server; ends both processes when the block is left.

    Sites that were approved are registered with Flower before the block is entered.
    Within it `Supervisor.watch` keeps both running.

    Args:
        coordinator: The coordinator's folder.
        tell: Takes a line for the coordinator.

    Raises:
        MachineError: The server runs already, the port is taken
            (`machine.port_in_use`), or a process died or did not become ready.
    """
    server = flower_server(coordinator)
    supervisor = Supervisor(tell=tell)
    with held_lock(coordinator.folder / LOCK_NAME, what="this server"):
        check_port_is_free(coordinator.config.listen_host, server.port)
        if renew_server_certificate_if_due(coordinator):
            coordinator.audit.append("server_certificate_renewed")
        try:
            supervisor.add(lambda: _start_superlink(coordinator))
            wait_until(
                lambda: is_healthy(server),
                children=supervisor.children,
                timeout_s=START_TIMEOUT_S,
            )
            supervisor.add(lambda: _start_superexec(coordinator, server))
            register_approved_sites(coordinator)
            yield supervisor
        finally:
            supervisor.stop()


def renew_server_certificate_if_due(coordinator: Coordinator) -> bool:
    """Replace the server's certificate when two thirds of its life are over.

    Returns:
        Whether it was replaced.

    Raises:
        IdentityError: The certificate or the issuing authority is missing or expired.
    """
    now = datetime.now(UTC)
    if not is_renewal_due(coordinator.pki, now=now):
        return False
    renew_server_certificate(
        coordinator.pki,
        consortium=coordinator.config.consortium,
        hosts=[split_address(coordinator.config.address)[0]],
        now=now,
    )
    return True


def register_approved_sites(coordinator: Coordinator) -> None:
    """Register every approved site that Flower does not know yet.

    Raises:
        MachineError: The server does not answer.
        ProtocolError: Flower refused a site.
    """
    with Control(flower_server(coordinator)) as control:
        known = control.registered_sites()
        for site in coordinator.registry.list_sites():
            if site.status != "approved":
                continue
            node_id = known.get(site.name)
            if node_id is None:
                node_id = control.register_site(site.name, site.load_key())
                coordinator.audit.append("site_registered", site=site.name)
            coordinator.registry.set_node_id(site.name, str(node_id))


def register_if_running(coordinator: Coordinator) -> None:
    """Register approved sites at once if the server runs; `start` does it otherwise."""
    if is_healthy(flower_server(coordinator)):
        register_approved_sites(coordinator)


def require_running(coordinator: Coordinator) -> None:
    """Raise if the server does not run.

    Raises:
        MachineError: `machine.server_not_running`.
    """
    with Control(flower_server(coordinator)):
        pass


def free_loopback_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port_is_free(host: str, port: int) -> None:
    """Refuse a port that another process listens on.

    Raises:
        MachineError: `machine.port_in_use`.
    """
    with socket.socket(socket.AF_INET) as probe:
        # As the server will bind it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MachineError(
                "machine.port_in_use",
                f"Port {port} on {host} is taken by another program.",
                remedy="Stop that program (perhaps a server that still runs), or set "
                "another listen_port in server.toml.",
            ) from error


def _start_superlink(coordinator: Coordinator) -> Child:
    pki, config = coordinator.pki, coordinator.config
    folder = make_folder(coordinator.flower_folder, private=True)
    return start_child(
        "SuperLink",
        [
            *(sys.executable, "-m", "acf_server.superlink_process"),
            *("--host", config.listen_host, "--port", str(config.listen_port)),
            *("--ssl-ca-certfile", str(pki.root_certificate)),
            *("--ssl-certfile", str(pki.server_chain)),
            *("--ssl-keyfile", str(pki.server_key)),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(_superexec_secret(coordinator))),
            *("--database", str(folder / "state.db")),
        ],
        log_file=coordinator.logs_folder / "superlink.log",
        environment=flower_environment(folder / "superlink-home"),
    )


def _start_superexec(coordinator: Coordinator, server: FlowerServer) -> Child:
    return start_child(
        "SuperExec",
        [
            flower_program("flower-superexec"),
            *("--runtime-api-address", server.address),
            *("--root-certificates", str(server.root_certificate)),
            *("--superexec-auth-secret-file", str(_superexec_secret(coordinator))),
        ],
        log_file=coordinator.logs_folder / "superexec.log",
        environment=flower_environment(coordinator.flower_folder / "superexec-home"),
    )


def _superexec_secret(coordinator: Coordinator) -> Path:
    path = coordinator.pki.folder / "superexec.secret"
    if not path.exists():
        write_atomically(path, secrets.token_hex(32).encode(), mode=PRIVATE_MODE)
    return path
