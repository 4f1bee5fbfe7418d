"""A site's data commands: where its data lies, under which contract it is prepared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from acf_client.enrolment import require_enrolment
from acf_client.site import Site
from acfnet_core.cohort.contract import DataContract, load_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PreparationEvent,
)
from acfnet_core.cohort.sources import CohortSources, sources_of
from acfnet_core.cohort.table.fault_values import write_fault_values


def read_contract(site: Site) -> DataContract:
    """Read the contract that came with the site's admission.

    Raises:
        IdentityError: The site is not enrolled yet.
        ConfigError: The contract has faults.
    """
    require_enrolment(site)
    return load_contract(site.contract_path)


def data_sources(site: Site) -> CohortSources:
    """Return where the site's data lies, and how it is read."""
    sources = sources_of(site.config.data, site.folder)
    return replace(sources, notes_folder=site.folder)


def write_values(site: Site, target: Path) -> int:
    """Write the table's faulty values into a private file; return how many.

    Raises:
        AcfnetError: The site is not enrolled, or its table cannot be read.
        MachineError: The file cannot be written.
    """
    sources = data_sources(site)
    return write_fault_values(
        target, sources.clinical_table, read_contract(site), sources.mapping
    )


def prepare_site(site: Site, num_workers: int) -> Iterator[PreparationEvent]:
    """Prepare the site's data and note it in the audit log.

    Raises:
        AcfnetError: The site is not enrolled, or its data cannot be used.
    """
    contract = read_contract(site)
    for event in prepare_cohort(
        contract,
        data_sources(site),
        site.prepared_folder,
        pseudonym_key=site.load_pseudonym_key(),
        num_workers=num_workers,
    ):
        if isinstance(event, CohortFinished):
            site.audit.append("data_prepared", contract_sha256=contract.sha256())
        yield event
