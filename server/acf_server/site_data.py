"""What the sites told of their data: taken from signed files, kept, read again.

`site-data/NAME.json` is a site's latest summary, as it was signed, with the moment of
its receipt. An older one goes to `site-data/earlier/`, named by its release and the day
on which it was replaced.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ValidationError

from acf_server.coordinator import Coordinator
from acf_server.site_data_difference import DriftWarning
from acf_server.site_data_drift import find_drift
from acf_server.site_data_table import WITHHELD, table_rows
from acfnet_core.cohort.contract import load_contract
from acfnet_core.config import Section
from acfnet_core.errors import (
    ConfigError,
    DataError,
    IdentityError,
    MachineError,
    ProtocolError,
)
from acfnet_core.federation.site_summary import (
    MAX_SUMMARY_BYTES,
    SignedSummary,
    SiteSummary,
    parse_summary,
    verify_summary,
)
from acfnet_core.files import make_folder, write_atomically

EARLIER = "earlier"


class StoredSummary(Section):
    """A site's summary as the coordinator keeps it."""

    format_version: Literal[1] = 1
    received: AwareDatetime
    signed: SignedSummary

    @property
    def summary(self) -> SiteSummary:
        """What the site told."""
        return self.signed.summary


def take_summary(
    coordinator: Coordinator, path: Path, *, now: datetime | None = None
) -> StoredSummary:
    """Verify a summary that a site sent, and keep it as the site's latest.

    Taking the same file again changes nothing.

    Args:
        coordinator: The coordinator's folder.
        path: The file that the site sent.
        now: The present time; None asks the clock.

    Raises:
        ConfigError: There is no such file.
        IdentityError: The site is unknown or not approved, or the file is another
            consortium's.
        ProtocolError: The file is no summary, is not signed by the site, or is older
            than the one that is kept.
        DataError: The summary was made under another contract.
        MachineError: It cannot be kept, or the one that is kept is damaged.
    """
    signed = parse_summary(_read(path), where=str(path))
    summary = signed.summary
    try:
        _check_sender(coordinator, signed)
        _check_contract(coordinator, summary)
        earlier = _load(_path_of(coordinator, summary.site))
        if earlier is not None and earlier.summary == summary:
            return earlier
        _check_order(earlier, summary)
    except (IdentityError, ProtocolError, DataError) as error:
        coordinator.audit.append("site_data_refused", code=error.code)
        raise
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    stored = StoredSummary(received=moment, signed=signed)
    folder = make_folder(coordinator.site_data_folder, private=True)
    if earlier is not None:
        _put_aside(make_folder(folder / EARLIER, private=True), earlier, moment)
    coordinator.audit.append(
        "site_data_taken",
        site=summary.site,
        release=summary.release,
        summary_sha256=summary.sha256(),
    )
    write_atomically(_path_of(coordinator, summary.site), _to_bytes(stored))
    return stored


def load_all(coordinator: Coordinator) -> tuple[StoredSummary, ...]:
    """Return the latest summary of every site that sent one, by the sites' names.

    Signatures were verified when the files were taken.

    Raises:
        MachineError: A file that was kept is damaged.
    """
    return tuple(_load_files(coordinator.site_data_folder))


@dataclass(frozen=True, kw_only=True)
class ComparedSites:
    """The latest summaries of all sites, and where they differ."""

    stored: tuple[StoredSummary, ...]
    warnings: tuple[DriftWarning, ...]

    def headings(self) -> list[str]:
        """Return what stands above the columns of `rows`."""
        return [
            f"{WITHHELD}: not told",
            *(f"{one.summary.site} ({one.received:%Y-%m-%d})" for one in self.stored),
        ]

    def rows(self) -> list[list[str]]:
        """Return the table for people: features as rows, sites as columns."""
        return list(table_rows([one.summary for one in self.stored]))

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "sites": [
                {
                    "received": one.received.isoformat(),
                    "summary": one.summary.model_dump(mode="json"),
                }
                for one in self.stored
            ],
            "warnings": [
                {**asdict(warning), "text": warning.describe()}
                for warning in self.warnings
            ],
        }


def compare_sites(coordinator: Coordinator) -> ComparedSites:
    """Load the summaries of all sites and look for differences.

    Raises:
        ConfigError: The coordinator's contract is missing or has faults.
        MachineError: A file that was kept is damaged.
    """
    stored = load_all(coordinator)
    contract = load_contract(coordinator.contract_path)
    warnings = find_drift(
        [one.summary for one in stored], contract_sha256=contract.sha256()
    )
    return ComparedSites(stored=stored, warnings=warnings)


def _load_files(folder: Path) -> Iterator[StoredSummary]:
    for path in sorted(folder.glob("*.json")):
        stored = _load(path)
        if stored is not None:
            yield stored


def _load(path: Path) -> StoredSummary | None:
    """Read a summary that was kept; None if there is none."""
    try:
        stored = StoredSummary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        # Not chained: the validation error quotes what the file holds.
        raise _damaged(path) from None
    if stored.summary.site != path.stem:
        raise _damaged(path)
    return stored


def _read(path: Path) -> bytes:
    """Read at most one byte more than a summary may have."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SUMMARY_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Correct the path or the file's permissions.",
        ) from error


def _check_sender(coordinator: Coordinator, signed: SignedSummary) -> None:
    summary = signed.summary
    expected = coordinator.config.consortium
    if summary.consortium != expected:
        raise IdentityError(
            "identity.name_mismatch",
            f"the summary is for consortium {summary.consortium}; expected {expected}.",
            remedy="Take the file that was written for this consortium.",
        )
    verify_summary(coordinator.registry.find(summary.site).load_key(), signed)


def _check_contract(coordinator: Coordinator, summary: SiteSummary) -> None:
    contract = load_contract(coordinator.contract_path)
    expected = contract.sha256()
    if summary.contract_sha256 != expected:
        raise DataError(
            "data.contract_mismatch",
            f"the summary of site {summary.site} was made under contract "
            f"{summary.contract_name} {summary.contract_sha256[:12]}; expected "
            f"{contract.name} {expected[:12]}.",
            remedy="Send the site a new admission with the present contract; it "
            "prepares its data again and writes a new summary.",
        )


def _check_order(earlier: StoredSummary | None, summary: SiteSummary) -> None:
    if earlier is not None and summary.release <= earlier.summary.release:
        raise ProtocolError(
            "protocol.summary_outdated",
            f"the summary of site {summary.site} is release {summary.release}; release "
            f"{earlier.summary.release} was taken on {earlier.received:%Y-%m-%d}.",
            remedy="Ask the site for its latest summary; if it lost its record of "
            "releases, it has to restore it.",
        )


def _put_aside(folder: Path, stored: StoredSummary, moment: datetime) -> None:
    summary = stored.summary
    name = f"{summary.site}-{summary.release}-{moment:%Y-%m-%d}.json"
    write_atomically(folder / name, _to_bytes(stored))


def _path_of(coordinator: Coordinator, site: str) -> Path:
    return coordinator.site_data_folder / f"{site}.json"


def _to_bytes(stored: StoredSummary) -> bytes:
    return f"{stored.model_dump_json(indent=2)}\n".encode()


def _damaged(path: Path) -> MachineError:
    return MachineError(
        "machine.summary_damaged",
        f"{path}: is not the data summary that was kept.",
        remedy="Move the file away and take the site's summary again.",
    )
