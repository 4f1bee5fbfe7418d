"""What a site tells of its data before any run: shown, or written to be sent.

Every summary that was written is kept in `released-summaries.json`. A later one is
compared with all of them, because two summaries together can tell what one does not.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from acf_client.data import data_sources, read_contract
from acf_client.enrolment import require_enrolment
from acf_client.site import Site
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.summary import spans_of, summarise_site
from acfnet_core.config import Section
from acfnet_core.errors import MachineError
from acfnet_core.federation.site_summary import SiteSummary, sign_summary
from acfnet_core.federation.summary_releases import release_after
from acfnet_core.files import PRIVATE_MODE, held_lock, write_atomically
from acfnet_core.identity.keys import load_key


class _Released(Section):
    """Every summary that has left the site, oldest first."""

    format_version: Literal[1] = 1
    summaries: tuple[SiteSummary, ...] = ()


def summarise_data(site: Site) -> SiteSummary:
    """Return exactly what would leave the site now; nothing is written.

    Raises:
        IdentityError: The site is not enrolled.
        DataError: The data is not prepared, is of too few patients, or is too close to
            a summary that has left the site.
        MachineError: The record of released summaries is damaged.
    """
    return _summarise(site, _read_released(site))


def write_summary(site: Site, path: Path) -> SiteSummary:
    """Write the summary, signed with the site's key, for the coordinator.

    The record and the audit log come first: nothing leaves that they do not have. The
    same summary again is the same release.

    Args:
        site: The site's folder.
        path: The file, replaced if it exists.

    Raises:
        AcfnetError: As `summarise_data`; or the key or a file cannot be used.
    """
    with held_lock(site.summaries_path.with_suffix(".lock"), what="data summary"):
        released = _read_released(site)
        summary = _summarise(site, released)
        signed = sign_summary(load_key(site.key_path), summary)
        if summary not in released.summaries:
            longer = _Released(summaries=(*released.summaries, summary))
            content = f"{longer.model_dump_json(indent=1)}\n".encode()
            write_atomically(site.summaries_path, content, mode=PRIVATE_MODE)
        site.audit.append(
            "data_summary_written",
            release=summary.release,
            summary_sha256=summary.sha256(),
            contract_sha256=summary.contract_sha256,
        )
        write_atomically(path, signed.to_bytes())
    return summary


def _summarise(site: Site, released: _Released) -> SiteSummary:
    state = require_enrolment(site)
    contract = read_contract(site)
    summary = summarise_site(
        open_store(
            site.prepared_folder,
            contract=contract,
            reading_sha256=data_sources(site).reading_sha256(),
        ),
        consortium=state.consortium,
        site=state.site,
    )
    return release_after(summary, released.summaries, spans=spans_of(contract))


def _read_released(site: Site) -> _Released:
    path = site.summaries_path
    try:
        return _Released.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Released()
    except (OSError, ValidationError) as error:
        raise MachineError(
            "machine.summary_damaged",
            f"{path}: the record of summaries that have left the site cannot be read; "
            "without it no new one can be compared with them.",
            remedy="Restore the file from a backup.",
        ) from error
