"""The coordinator's folder: what lies where, how it is made and how it is opened."""

import ipaddress
import json
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acf_server.pki import PkiPaths, create_pki, load_root_certificate
from acf_server.sites import SiteRegistry
from acfnet_core.audit import AuditLog
from acfnet_core.config import describe_faults, read_settings
from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.files import make_folder, refuse_strangers, write_atomically
from acfnet_core.identity.fingerprint import fingerprint_certificate
from acfnet_core.identity.names import Address, Name, split_address
from acfnet_core.identity.requests import MAX_CONTRACT_BYTES

SETTINGS_NAME = "server.toml"
DEFAULT_PORT = 9092

_SUBFOLDERS = ("pki", "flower", "runs", "logs")
_OWN_NAMES = frozenset(
    {
        *_SUBFOLDERS,
        SETTINGS_NAME,
        "contract.toml",
        "registry.sqlite",
        "audit.jsonl",
        "running.lock",
        "site-data",
    }
)


class ServerConfig(BaseModel):
    """The settings in server.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    consortium: Name
    address: Address
    """The public `host:port` that invitations name."""
    listen_host: str = "127.0.0.1"
    """Flower's own port trusts whoever reaches it, so it stays on loopback."""
    listen_port: Annotated[int, Field(ge=1, le=65535)] = DEFAULT_PORT
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Of the page for Prometheus, on the loopback address alone; null is none."""


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """An initialised folder of the coordinator."""

    folder: Path
    config: ServerConfig

    @property
    def pki(self) -> PkiPaths:
        """The certificates and keys."""
        return PkiPaths(folder=self.folder / "pki")

    @property
    def flower_folder(self) -> Path:
        """What belongs to Flower: its database and its files."""
        return self.folder / "flower"

    @property
    def runs_folder(self) -> Path:
        """One folder for each run."""
        return self.folder / "runs"

    @property
    def site_data_folder(self) -> Path:
        """What the sites told of their data; made when the first is taken."""
        return self.folder / "site-data"

    @property
    def logs_folder(self) -> Path:
        """The processes' logs; sensitive, because they hold message ids."""
        return self.folder / "logs"

    @property
    def contract_path(self) -> Path:
        """The data contract that every admission carries."""
        return self.folder / "contract.toml"

    def read_contract_text(self) -> str:
        """Read the data contract exactly as it is, line ends included.

        Raises:
            ConfigError: The file is missing or is no text.
        """
        try:
            return self.contract_path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "config.not_found",
                f"{self.contract_path}: the data contract cannot be read.",
                remedy="Restore the file from a backup.",
            ) from error

    @property
    def registry(self) -> SiteRegistry:
        """The sites that were invited and approved."""
        return SiteRegistry(self.folder / "registry.sqlite")

    @property
    def audit(self) -> AuditLog:
        """The record of what the coordinator did."""
        return AuditLog(self.folder / "audit.jsonl")

    @property
    def root_fingerprint(self) -> str:
        """The fingerprint that every site pins."""
        return fingerprint_certificate(load_root_certificate(self.pki))


def initialise(
    folder: Path,
    *,
    consortium: str,
    address: str,
    contract_text: str,
    port: int = DEFAULT_PORT,
    root_passphrase: bytes | None = None,
    now: datetime | None = None,
) -> Coordinator:
    """Set up a coordinator's folder: settings, certificates, registry, audit log.

    Interrupted before its end, it leaves a folder that a repeated call completes.

    Args:
        folder: A new or empty folder.
        consortium: The consortium's name.
        address: The public `host:port` under which sites will reach this machine.
        contract_text: The data contract, TOML; check it with `load_contract` first.
        port: Of Flower's own listener on the loopback address.
        root_passphrase: Encrypts the root's key; None makes one (see `create_pki`).
        now: The present time; None asks the clock.

    Raises:
        ConfigError: The folder is set up already, or an option has faults.
        MachineError: The folder cannot be written or has other things in it.
    """
    moment = now or datetime.now(UTC)
    _refuse_occupied(folder)
    config = _check_options(consortium, address, port)
    _check_contract(contract_text)
    make_folder(folder, private=True)
    for name in _SUBFOLDERS:
        make_folder(folder / name, private=True)
    coordinator = Coordinator(folder=folder, config=config)
    # Without server.toml nothing was ever announced, so a half-made root is replaced.
    coordinator.pki.root_certificate.unlink(missing_ok=True)
    create_pki(
        coordinator.pki.folder,
        consortium=consortium,
        hosts=[split_address(address)[0]],
        root_passphrase=root_passphrase,
        now=moment,
    )
    coordinator.registry.create()
    write_atomically(coordinator.contract_path, contract_text.encode())
    coordinator.audit.append(
        "coordinator_initialised",
        consortium=consortium,
        root_fingerprint=coordinator.root_fingerprint,
    )
    write_atomically(folder / SETTINGS_NAME, _settings_text(config).encode())
    return coordinator


def open_coordinator(folder: Path) -> Coordinator:
    """Open a folder that was set up before.

    Raises:
        ConfigError: The folder is not set up, or server.toml has faults.
        MachineError: The listening address is not on loopback.
    """
    path = folder / SETTINGS_NAME
    if not path.exists():
        raise ConfigError(
            "config.not_initialised",
            f"{folder}: has no {SETTINGS_NAME}; it is not a coordinator's folder.",
            remedy="Set it up with `acf-server init`, or correct the path.",
        )
    config = read_settings(path, ServerConfig)
    _require_loopback(config.listen_host, path)
    return Coordinator(folder=folder, config=config)


def _check_options(consortium: str, address: str, port: int) -> ServerConfig:
    try:
        return ServerConfig(consortium=consortium, address=address, listen_port=port)
    except ValidationError as error:
        raise ConfigError(
            "config.invalid",
            "\n".join(describe_faults(error, where="options", with_values=True)),
            remedy="Correct the options named and repeat the command.",
        ) from error


def _check_contract(text: str) -> None:
    size_bytes = len(text.encode())
    if not 0 < size_bytes <= MAX_CONTRACT_BYTES:
        raise ConfigError(
            "config.contract_invalid",
            f"the data contract has {size_bytes} bytes; expected 1 to "
            f"{MAX_CONTRACT_BYTES}.",
            remedy="Give a data contract of this size.",
        )
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            "config.contract_invalid",
            f"the data contract is not a TOML text: {error}.",
            remedy="Correct the contract at the place named.",
        ) from error


def _require_loopback(host: str, path: Path) -> None:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise MachineError(
            "machine.address_not_loopback",
            f"{path}: listen_host is {host!r}; expected an address of this machine "
            "alone, such as 127.0.0.1.",
            remedy="Set listen_host to 127.0.0.1; the public address is another field.",
        )


def _refuse_occupied(folder: Path) -> None:
    """Refuse a folder that is set up, or that holds what is not ours."""
    if (folder / SETTINGS_NAME).exists():
        raise ConfigError(
            "config.already_initialised",
            f"{folder}: is set up as a coordinator's folder already.",
            remedy="Go on with `acf-server site invite`, or choose another folder.",
        )
    refuse_strangers(folder, own_names=_OWN_NAMES)


def _settings_text(config: ServerConfig) -> str:
    """Write server.toml with its comments; JSON's strings are TOML's basic strings."""
    return f"""\
# The coordinator's settings. `acf-server init` wrote this file.

consortium = {json.dumps(config.consortium)}

# The public host:port that invitations name and sites connect to.
address = {json.dumps(config.address)}

# Where Flower itself listens. Only an address of this machine is accepted here:
# whoever reaches this port is trusted.
listen_host = {json.dumps(config.listen_host)}
listen_port = {config.listen_port}

# A page with figures of the runs for Prometheus, on 127.0.0.1 alone.
# metrics_port = 9464
"""
