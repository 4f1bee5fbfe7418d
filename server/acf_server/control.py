"""Flower's control interface: register sites, start and watch runs.

Flower documents no Python interface for this; its own command line uses these names.
They are confined to this module, the version of flwr is bounded in pyproject.toml, and
tests/server/test_flower_contract.py fails when one of them changes.
"""

import hashlib
import json
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import Status
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from acf_server.app import RUN_FOLDER_KEY
from acfnet_core.errors import MachineError, ProtocolError

HEALTH_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class FlowerServer:
    """Where the SuperLink listens, and the certificate to check it by."""

    port: int
    root_certificate: Path

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


def is_healthy(server: FlowerServer) -> bool:
    """Tell whether the SuperLink answers, with a certificate that verifies."""
    context = ssl.create_default_context(cafile=str(server.root_certificate))
    url = f"https://{server.address}/health"
    try:
        with urllib.request.urlopen(
            url, timeout=HEALTH_TIMEOUT_S, context=context
        ) as response:
            return bool(response.status == httpx.codes.OK)
    except (URLError, TimeoutError, ConnectionError):
        return False


class Control:
    """A connection to the control interface; use it as a context manager.

    Raises:
        MachineError: The server does not answer.
        ProtocolError: Flower refused a request (`protocol.flower_failed`).
    """

    def __init__(self, server: FlowerServer) -> None:
        if not is_healthy(server):
            raise MachineError(
                "machine.server_not_running",
                f"The server does not answer on {server.address}.",
                remedy="Start it in another terminal: acf-server start",
            )
        self._client = ControlHttpClient.from_server_address(
            server_address=server.address,
            insecure=False,
            root_certificates=server.root_certificate.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._client.close()

    def registered_sites(self) -> dict[str, int]:
        """Return name and Flower node id of every registered site."""
        try:
            response = self._client.ListNodes(ListNodesRequest())
        except httpx.HTTPError as error:
            raise _refused("list the sites", error) from error
        return {
            node.name: node.node_id
            for node in response.nodes_info
            if node.status != "unregistered"
        }

    def register_site(self, name: str, key: ec.EllipticCurvePublicKey) -> int:
        """Let the holder of a key connect as a site; return its Flower node id."""
        request = RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
        try:
            return int(self._client.RegisterNode(request).node_id)
        except httpx.HTTPError as error:
            raise _refused(f"register {name}", error) from error

    def start_run(self, bundle: Path, run_folder: Path) -> int:
        """Start the bundle's ServerApp on a run folder; return Flower's run id."""
        content = build_fab_from_disk(bundle)
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(
            fab=fab_to_proto(fab),
            override_config=user_config_to_proto({RUN_FOLDER_KEY: str(run_folder)}),
        )
        try:
            response = self._client.StartRun(request)
        except httpx.HTTPError as error:
            raise _refused("start the run", error) from error
        return int(response.run_id)

    def stop_run(self, run_id: int) -> None:
        """Stop a run; what a site computes at this moment is not interrupted."""
        try:
            self._client.StopRun(StopRunRequest(run_id=run_id))
        except httpx.HTTPError as error:
            raise _refused("stop the run", error) from error

    def has_ended(self, run_id: int) -> bool:
        """Tell whether Flower has ended a run, whatever the reason."""
        try:
            response = self._client.ListRuns(ListRunsRequest(run_id=run_id))
        except httpx.HTTPError as error:
            raise _refused("ask for the run", error) from error
        return bool(response.run_dict[run_id].status.status == Status.FINISHED)


def _refused(what: str, error: httpx.HTTPError) -> ProtocolError:
    reason = type(error).__name__
    if isinstance(error, httpx.HTTPStatusError):
        reason = _reason(error.response)
    return ProtocolError(
        "protocol.flower_failed",
        f"Flower could not {what}: {reason}.",
        remedy="Look at logs/superlink.log in the coordinator's folder.",
    )


def _reason(response: httpx.Response) -> str:
    """Return status and, if there is one, the public part of Flower's message."""
    try:
        detail = json.loads(response.content)
    except ValueError:
        return f"HTTP {response.status_code}"
    return f"HTTP {response.status_code} {str(detail)[:200]}"
