"""The site's folder: its settings, its keys, its prepared data and its logs."""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acf_client.settings import SETTINGS_NAME, SiteConfig, settings_text
from acfnet_core.audit import AuditLog
from acfnet_core.cohort.data_settings import refuse_missing_files
from acfnet_core.config import check_settings, read_settings
from acfnet_core.errors import ConfigError, IdentityError, MachineError
from acfnet_core.files import (
    PRIVATE_MODE,
    make_folder,
    refuse_strangers,
    write_atomically,
)
from acfnet_core.identity.keys import read_private_file

PSEUDONYM_KEY_BYTES = 32

_PRIVATE_SUBFOLDERS = ("identity", "prepared", "logs")
_OWN_NAMES = frozenset(
    {
        *_PRIVATE_SUBFOLDERS,
        SETTINGS_NAME,
        "pseudonym.key",
        "contract.toml",
        "enrolment-request.json",
        "audit.jsonl",
        "trainer.sock",
        "running.lock",
        "released-summaries.json",
        "released-summaries.lock",
        "predictions",
        "runs",
        "data-report.html",
        "flower",
    }
)

# Linux keeps a socket's path in 108 bytes, its end included; macOS in 104.
_MAX_SOCKET_PATH_BYTES = 103


@dataclass(frozen=True, kw_only=True)
class Site:
    """An initialised folder of a site."""

    folder: Path
    config: SiteConfig

    @property
    def clinical_table(self) -> Path:
        """The clinical table; a relative path begins at the site's folder."""
        return self.folder / self.config.data.clinical_table

    @property
    def images(self) -> Path | None:
        """The folder of DICOM files, or None where there is none."""
        images = self.config.data.images
        return None if images is None else self.folder / images

    @property
    def identity_folder(self) -> Path:
        """Keys and certificates; nobody but the owner may enter."""
        return self.folder / "identity"

    @property
    def key_path(self) -> Path:
        """The site's private key, PKCS #8."""
        return self.identity_folder / "site.key"

    @property
    def node_key_path(self) -> Path:
        """The same key in OpenSSH's form, for Flower; `.pub` lies beside it."""
        return self.identity_folder / "node.key"

    @property
    def certificate_path(self) -> Path:
        """The site's certificate, followed by the issuing one."""
        return self.identity_folder / "site.pem"

    @property
    def root_path(self) -> Path:
        """The consortium's root certificate, as it was pinned."""
        return self.identity_folder / "root.pem"

    @property
    def enrolment_path(self) -> Path:
        """How far the enrolment has come."""
        return self.identity_folder / "enrolment.json"

    @property
    def request_path(self) -> Path:
        """The request to send to the coordinator."""
        return self.folder / "enrolment-request.json"

    @property
    def prepared_folder(self) -> Path:
        """What `data prepare` makes of the site's data."""
        return self.folder / "prepared"

    @property
    def data_report_path(self) -> Path:
        """The page that `data report` writes unless told another place."""
        return self.folder / "data-report.html"

    @property
    def predictions_folder(self) -> Path:
        """What `predict` says of patients, a folder each; made when first asked."""
        return self.folder / "predictions"

    @property
    def runs_folder(self) -> Path:
        """What the site remembers of each run, and its own models; a folder each."""
        return self.folder / "runs"

    @property
    def summaries_path(self) -> Path:
        """Every data summary that has left the site."""
        return self.folder / "released-summaries.json"

    @property
    def logs_folder(self) -> Path:
        """The processes' logs."""
        return self.folder / "logs"

    @property
    def contract_path(self) -> Path:
        """The data contract that came with the admission."""
        return self.folder / "contract.toml"

    @property
    def audit(self) -> AuditLog:
        """The record of what entered or left the site."""
        return AuditLog(self.folder / "audit.jsonl")

    @property
    def trainer_socket(self) -> Path:
        """Where the trainer listens: in the folder, if the system allows the length.

        Otherwise in a private folder for short-lived files; call
        `make_socket_folder` before listening.
        """
        path = self.folder.absolute() / "trainer.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        return base / f"acfnet-{os.getuid()}" / f"{digest[:24]}.sock"

    def make_socket_folder(self) -> Path:
        """Make the folder of `trainer_socket` and be sure that it is ours alone.

        Raises:
            MachineError: The folder cannot be made, or somebody else made it.
        """
        folder = self.trainer_socket.parent
        if folder == self.folder.absolute():
            return folder
        make_folder(folder, private=True)
        status = folder.lstat()
        if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o77:
            raise MachineError(
                "machine.folder_unwritable",
                f"{folder}: is not a folder that belongs to this user alone.",
                remedy="Remove it, or set XDG_RUNTIME_DIR to a private folder.",
            )
        return folder

    def load_pseudonym_key(self) -> bytes:
        """Read the 32 bytes that patients' pseudonyms are made with.

        Raises:
            IdentityError: The key is missing, damaged or readable by others.
        """
        key = read_private_file(self.folder / "pseudonym.key")
        if len(key) != PSEUDONYM_KEY_BYTES:
            raise IdentityError(
                "identity.key_unreadable",
                f"{self.folder / 'pseudonym.key'}: has {len(key)} bytes; expected "
                f"{PSEUDONYM_KEY_BYTES}.",
                remedy="Restore the file from a backup; a new one would change every "
                "pseudonym.",
            )
        return key


def initialise(
    folder: Path,
    *,
    clinical_table: Path,
    images: Path | None,
    column_names: Mapping[str, str],
    device: str = "auto",
    num_threads: int | None = None,
) -> Site:
    """Set up a site's folder: settings, a key for pseudonyms, and its subfolders.

    Interrupted before its end, it leaves a folder that a repeated call completes.

    Args:
        folder: A new or empty folder, not within the data.
        clinical_table: The site's CSV or xlsx file.
        images: Its folder of DICOM files; None where it has none.
        column_names: The table's own heading -> the contract's name, where they
            differ.
        device: What to compute with.
        num_threads: CPU threads for training; None leaves it to torch.

    Raises:
        ConfigError: The folder is set up already, or an option has faults.
        DataError: The table or the folder of images does not exist.
        MachineError: The folder cannot be written or has other things in it.
    """
    _refuse_occupied(folder)
    data: dict[str, Any] = {
        "clinical_table": str(clinical_table.absolute()),
        "columns": dict(column_names),
    }
    if images is not None:
        data["images"] = str(images.absolute())
    compute = {"device": device, "num_threads": num_threads}
    content = {"data": data, "compute": compute}
    config = check_settings(content, SiteConfig, where="options")
    refuse_missing_files(config.data.clinical_table, config.data.images)
    make_folder(folder, private=True)
    for name in _PRIVATE_SUBFOLDERS:
        make_folder(folder / name, private=True)
    pseudonym_key = folder / "pseudonym.key"
    if not pseudonym_key.exists():
        key = secrets.token_bytes(PSEUDONYM_KEY_BYTES)
        write_atomically(pseudonym_key, key, mode=PRIVATE_MODE)
    site = Site(folder=folder, config=config)
    site.audit.append("site_initialised", has_images=images is not None)
    write_atomically(
        folder / SETTINGS_NAME, settings_text(config).encode(), mode=PRIVATE_MODE
    )
    return site


def open_site(folder: Path) -> Site:
    """Open a folder that was set up before.

    Raises:
        ConfigError: The folder is not set up, or site.toml has faults.
    """
    path = folder / SETTINGS_NAME
    if not path.exists():
        raise ConfigError(
            "config.not_initialised",
            f"{folder}: has no {SETTINGS_NAME}; it is not a site's folder.",
            remedy="Set it up with `acf-client init`, or correct the path.",
        )
    return Site(folder=folder, config=read_settings(path, SiteConfig))


def _refuse_occupied(folder: Path) -> None:
    """Refuse a folder that is set up, or that holds what is not ours."""
    if (folder / SETTINGS_NAME).exists():
        raise ConfigError(
            "config.already_initialised",
            f"{folder}: is set up as a site's folder already.",
            remedy=f"Change {SETTINGS_NAME} by hand, or choose another folder.",
        )
    refuse_strangers(folder, own_names=_OWN_NAMES)
