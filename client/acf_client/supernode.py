"""Running a site: its trainer and Flower's SuperNode, started and ended together."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from acf_client.enrolment import require_enrolment
from acf_client.site import Site
from acf_client.trainer_link import SOCKET_VARIABLE
from acfnet_core.cohort.contract import load_contract
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.sources import sources_of
from acfnet_core.errors import ProtocolError
from acfnet_core.files import held_lock, make_folder
from acfnet_core.flower_environment import flower_environment
from acfnet_core.processes import POLL_S, Child, start_child, wait_until
from acfnet_core.supervision import Supervisor, Tell

TRAINER_TIMEOUT_S = 300.0
REFUSED_S = 75.0
"""How long a refused node tries again: Flower forgets a lost session in 60 seconds."""
LOCK_NAME = "running.lock"
_CONNECTED = b"SuperNode ID:"
"""What Flower's SuperNode logs once the coordinator has accepted it."""


@contextmanager
def running_site(site: Site, *, tell: Tell) -> Iterator[Supervisor]:
    """Run the site's trainer and SuperNode; ends both when the block is left.

    The block is entered when the trainer has the data and the coordinator has accepted
    the node. Within it `Supervisor.watch` keeps both running.

    Args:
        site: The site's folder.
        tell: Takes a line for the operator.

    Raises:
        IdentityError: The site is not enrolled.
        DataError: Its data is not prepared.
        MachineError: It is running already, or a process died or was not ready in time.
        ProtocolError: The coordinator refuses the site (`protocol.site_not_accepted`).
    """
    address = require_enrolment(site).address
    contract = load_contract(site.contract_path)
    open_store(
        site.prepared_folder,
        contract=contract,
        reading_sha256=sources_of(site.config.data, site.folder).reading_sha256(),
    )
    supervisor = Supervisor(tell=tell)
    with held_lock(site.folder / LOCK_NAME, what="this site"):
        # A crash may have left it behind; while we hold the lock nobody listens there.
        site.trainer_socket.unlink(missing_ok=True)
        try:
            supervisor.add(lambda: _start_trainer(site))
            wait_until(
                site.trainer_socket.exists,
                children=supervisor.children,
                timeout_s=TRAINER_TIMEOUT_S,
            )
            supervisor.add(lambda: start_supernode(site, address))
            _wait_for_coordinator(supervisor, address)
            yield supervisor
        finally:
            supervisor.stop()
            site.trainer_socket.unlink(missing_ok=True)


def _start_trainer(site: Site) -> Child:
    return start_child(
        "trainer",
        [sys.executable, "-m", "acf_client.trainer", str(site.folder)],
        log_file=site.logs_folder / "trainer.log",
    )


def start_supernode(site: Site, address: str) -> Child:
    """Start the site's connection to the coordinator, and nothing else."""
    home = make_folder(site.folder / "flower", private=True)
    environment = flower_environment(home)
    environment[SOCKET_VARIABLE] = str(site.trainer_socket)
    return start_child(
        "SuperNode",
        [
            *(sys.executable, "-m", "acf_client.supernode_process"),
            *("--superlink", address),
            *("--root-certificates", str(site.root_path)),
            *("--auth-supernode-private-key", str(site.node_key_path)),
        ],
        log_file=site.logs_folder / "supernode.log",
        environment=environment,
    )


def _wait_for_coordinator(supervisor: Supervisor, address: str) -> None:
    """Wait until the node is connected, however long the coordinator is away.

    A node that is refused is started again for a while: the coordinator may still
    hold a session of it that was cut off.
    """
    started = monotonic()
    while not _is_connected(supervisor.children[-1]):
        node = supervisor.children[-1]
        if node.has_ended and monotonic() - started > REFUSED_S:
            raise ProtocolError(
                "protocol.site_not_accepted",
                f"The coordinator at {address} did not accept this site. Either the "
                "site has not been approved (or the server was not started since), or "
                "another machine runs this site, or this machine's clock is wrong.",
                remedy=f"Ask the coordinator; details: {node.log_file}",
            )
        supervisor.tend()
        sleep(POLL_S)


def _is_connected(node: Child) -> bool:
    return not node.has_ended and _CONNECTED in node.fresh_log()
