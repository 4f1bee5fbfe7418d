"""The patients of a simulation: sites, all of them as one, and a part kept back.

    simulated/RUN/whole/             a table's patients, before they are divided
    simulated/RUN/sites/SITE/        as a hospital's site folder, but not enrolled
    simulated/RUN/pooled/            the patients of all sites
    simulated/RUN/held-out/          those whom no model is trained on

Each is a prepared store of its own, in private folders. The part is kept back before
anything is divided, in equal shares of patients with and without an event.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acfnet_core.cohort.contract import DataContract, find_contract, load_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.prepared.manifest import PatientRecord, read_manifest
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import PreparationEvent
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.prepared.store_parts import StorePart, write_store
from acfnet_core.cohort.site_splits import (
    DEFAULT_CONCENTRATION,
    SplitKind,
    split_among_sites,
)
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.splits import split_patients
from acfnet_core.errors import ConfigError, DataError
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.identity.keys import (
    generate_key,
    load_key,
    public_key_pem,
    save_key,
)

HELD_OUT_SHARE = 0.2
PREPARED = "prepared"
CONTRACT_NAME = "contract.toml"
_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class DividedTable:
    """One cohort that is to be divided into pseudo-sites.

    Attributes:
        sources: Where its files lie, and how they are read.
        contract: A contract.toml, or the name of a shipped one.
        num_sites: Pseudo-sites.
        split: How they differ.
        concentration: How little they do; not used by `iid`.
    """

    sources: CohortSources
    contract: str
    num_sites: int
    split: SplitKind = "iid"
    concentration: float = DEFAULT_CONCENTRATION


@dataclass(frozen=True, kw_only=True)
class PreparedSites:
    """Cohorts that were prepared before: each is a site.

    Attributes:
        folders: Sites' folders, or their `prepared/`, with the contract beside it; in
            the order of the run's sites.
    """

    folders: tuple[Path, ...]


SimulatedCohorts = DividedTable | PreparedSites


@dataclass(frozen=True)
class SimulatedSite:
    """One site of a simulation."""

    folder: Path

    @property
    def name(self) -> str:
        """The site's name."""
        return self.folder.name

    @property
    def prepared_folder(self) -> Path:
        """Its patients."""
        return self.folder / PREPARED

    @property
    def key_path(self) -> Path:
        """The key that signs its updates."""
        return self.folder / "identity" / "site.key"

    @property
    def runs_folder(self) -> Path:
        """What it remembers of a run from round to round."""
        return self.folder / "runs"

    def public_key_pem(self) -> str:
        """Return the public half of the key."""
        return public_key_pem(load_key(self.key_path).public_key())


@dataclass(frozen=True, kw_only=True)
class SimulatedData:
    """All stores of a simulation.

    Attributes:
        sites: In the order of the run.
    """

    contract: DataContract
    sites: tuple[SimulatedSite, ...]
    pooled_folder: Path
    held_out_folder: Path

    def open_site(self, site: SimulatedSite) -> PreparedCohort:
        """Open a site's patients."""
        return open_store(site.prepared_folder, contract=self.contract)

    def open_pooled(self) -> PreparedCohort:
        """Open the patients of all sites."""
        return open_store(self.pooled_folder, contract=self.contract)

    def open_held_out(self) -> PreparedCohort:
        """Open the patients whom no model is trained on."""
        return open_store(self.held_out_folder, contract=self.contract)


@dataclass(frozen=True, kw_only=True)
class _Division:
    """Who goes where, not yet written."""

    contract: DataContract
    sites: tuple[StorePart, ...]
    held_out: tuple[StorePart, ...]


def divide_simulated(
    cohorts: SimulatedCohorts,
    folder: Path,
    *,
    site_names: Sequence[str],
    seed: int,
    notify: Callable[[PreparationEvent], None],
) -> SimulatedData:
    """Write the stores of a simulation.

    Args:
        cohorts: The patients.
        folder: A new folder for all of them.
        site_names: The run's sites.
        seed: Decides who is kept back, and which site the others belong to.
        notify: Takes the events of a table's preparation.

    Raises:
        ConfigError: The number of cohorts is not that of the sites.
        DataError: The data cannot be used, or a site has fewer patients than the
            contract's minimum (`data.too_few_patients`).
    """
    for one in (folder.parent, folder, folder / "sites"):
        make_folder(one, private=True)
    division = (
        _divide_table(cohorts, folder / "whole", seed=seed, notify=notify)
        if isinstance(cohorts, DividedTable)
        else _take_sites(cohorts, site_names, seed=seed)
    )
    contract = division.contract
    sites = tuple(SimulatedSite(folder / "sites" / name) for name in site_names)
    for site, part in zip(sites, division.sites, strict=True):
        make_folder(site.folder, private=True)
        make_folder(site.key_path.parent, private=True)
        save_key(site.key_path, generate_key())
        text = contract_to_toml(contract)
        write_atomically(site.folder / CONTRACT_NAME, text.encode())
        write_store(site.prepared_folder, [part], contract=contract)
    write_store(
        folder / "held-out", _require_somebody(division.held_out), contract=contract
    )
    return SimulatedData(
        contract=contract,
        sites=sites,
        pooled_folder=write_store(folder / "pooled", division.sites, contract=contract),
        held_out_folder=folder / "held-out",
    )


def _divide_table(
    table: DividedTable,
    store_folder: Path,
    *,
    seed: int,
    notify: Callable[[PreparationEvent], None],
) -> _Division:
    """Prepare a table's patients, keep a part back and divide the others."""
    contract = find_contract(table.contract)
    if table.sources.images_folder is None:
        contract = contract.without_imaging()
    for event in prepare_cohort(
        contract,
        table.sources,
        store_folder,
        # The pseudonyms are never to be made again, so nobody keeps their key.
        pseudonym_key=secrets.token_bytes(_KEY_BYTES),
    ):
        notify(event)
    whole = _whole(store_folder, contract)
    held_out, training = _keep_back(whole, seed=seed)
    minimum = contract.fewest_patients
    patients = training.patients
    if len(patients) < table.num_sites * minimum:
        raise DataError(
            "data.too_few_patients",
            f"Without the part kept back, {len(patients)} patients with an outcome are "
            f"left for {table.num_sites} sites; the contract's minimum is {minimum} "
            "each.",
            remedy="Simulate fewer sites.",
        )
    site_of = split_among_sites(
        np.array([patient.time_months for patient in patients], np.float64),
        _events(patients),
        kind=table.split,
        num_sites=table.num_sites,
        minimum=minimum,
        seed=seed,
        concentration=table.concentration,
    )
    parts = (
        _some(training, np.flatnonzero(site_of == site))
        for site in range(table.num_sites)
    )
    return _Division(contract=contract, sites=tuple(parts), held_out=(held_out,))


def _take_sites(
    cohorts: PreparedSites, site_names: Sequence[str], *, seed: int
) -> _Division:
    """Keep a part of every cohort back."""
    if len(cohorts.folders) != len(site_names):
        raise ConfigError(
            "config.invalid",
            f"options: {len(cohorts.folders)} cohorts are given; run.toml names "
            f"{len(site_names)} sites.",
            remedy="Give --cohort once for each site, in the order of run.toml.",
        )
    stores = [_find_store(folder) for folder in cohorts.folders]
    contract = load_contract(stores[0][1])
    sites, held_out = [], []
    for name, (store, contract_path) in zip(site_names, stores, strict=True):
        if load_contract(contract_path).sha256() != contract.sha256():
            raise DataError(
                "data.contract_mismatch",
                f"{contract_path}: is another contract than {stores[0][1]}.",
                remedy="Prepare all cohorts under one contract.",
            )
        kept, trained = _keep_back(_whole(store, contract), seed=seed)
        minimum = contract.fewest_patients
        if len(trained.patients) < minimum:
            raise DataError(
                "data.too_few_patients",
                f"{name}: without the part kept back it has fewer patients than the "
                f"{minimum} of the contract.",
                remedy="Leave the site out of run.toml.",
            )
        sites.append(trained)
        held_out.append(kept)
    return _Division(contract=contract, sites=tuple(sites), held_out=tuple(held_out))


def _find_store(folder: Path) -> tuple[Path, Path]:
    """Return a store and the contract beside it, of a site's folder or of its store."""
    store = folder / PREPARED if (folder / PREPARED).is_dir() else folder
    return store, store.parent / CONTRACT_NAME


def _whole(folder: Path, contract: DataContract) -> StorePart:
    """Return all patients of a store, once it has shown itself to be sound."""
    open_store(folder, contract=contract)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError("the store was there a moment ago")
    return StorePart(folder, manifest.patients, manifest.reading_sha256)


def _keep_back(whole: StorePart, *, seed: int) -> tuple[StorePart, StorePart]:
    """Return the part that is kept back, and the rest."""
    kept, trained = split_patients(
        _events(whole.patients), fraction=HELD_OUT_SHARE, seed=seed
    )
    return _some(whole, kept), _some(whole, trained)


def _some(part: StorePart, rows: np.ndarray) -> StorePart:
    patients = tuple(part.patients[row] for row in rows)
    return StorePart(part.folder, patients, part.reading_sha256)


def _events(patients: Sequence[PatientRecord]) -> np.ndarray:
    return np.array([patient.event == 1 for patient in patients], np.bool_)


def _require_somebody(parts: Sequence[StorePart]) -> Sequence[StorePart]:
    if any(part.patients for part in parts):
        return parts
    raise DataError(
        "data.nothing_usable",
        "Too few patients have an outcome for a part to be kept back.",
        remedy="Give a larger cohort.",
    )
