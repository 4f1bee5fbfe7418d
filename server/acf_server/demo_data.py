"""The patients of the demo: made up, or the public table divided into pseudo-sites."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from acf_server.run_files import DataOrigin
from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.cohort_mix import plan_cohort
from acfnet_core.cohort.synthetic.hospital import HospitalPlan, plan_clean_hospital
from acfnet_core.cohort.synthetic.hospital_files import synthesize_hospital
from acfnet_core.cohort.synthetic.pseudo_sites import write_public_cohort_sites
from acfnet_core.cohort.synthetic.site_settings import made_up_sources, settings_of
from acfnet_core.cohort.synthetic.sites import (
    PatientWritten,
    SyntheticSite,
    held_out_site,
)
from acfnet_core.cohort.synthetic.table_forms import table_form
from acfnet_core.errors import ConfigError

DEFAULT_NUM_PATIENTS = 120
HELD_OUT_SHARE = 1 / 3
MIN_HELD_OUT = 20
NUM_PSEUDO_SITES = 2
SERIES_NAME = "ct_series.csv"


Watch = Callable[[str, int, Iterable[PatientWritten]], None]
"""Works off the events of one hospital's making, and shows them."""


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """Where one hospital's files lie, and how they are written.

    Attributes:
        sources: The table, the images, and how they are read.
        settings: A site.toml that reads the files, but for [compute]; None where the
            one that `acf-client init` writes does.
        habits: How the hospital writes its files, for people.
    """

    name: str
    sources: CohortSources
    settings: str | None = None
    habits: str = ""

    @property
    def clinical_table(self) -> Path:
        """The hospital's table."""
        return self.sources.clinical_table

    @property
    def images(self) -> Path | None:
        """The hospital's images; None where it has none."""
        return self.sources.images_folder


@dataclass(frozen=True, kw_only=True)
class DemoCohort:
    """All files of the demo, and the words and settings that go with them."""

    contract: DataContract
    hospitals: tuple[Hospital, ...]
    held_out: Hospital
    origin: DataOrigin
    purpose: str
    learning_rate: float

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names of the training sites."""
        return tuple(hospital.name for hospital in self.hospitals)

    def hospital(self, name: str) -> Hospital:
        """Return a training site's files."""
        return next(h for h in self.hospitals if h.name == name)


def make_synthetic_cohort(
    folder: Path,
    *,
    num_sites: int,
    num_patients: int | None,
    seed: int,
    features: tuple[str, ...],
    watch: Watch,
) -> DemoCohort:
    """Make up hospitals as real files, each written in the hospital's own way.

    Raises:
        ConfigError: Too few patients for this many sites, or a forbidden feature.
    """
    contract = _with_features(shipped_contract("crlm"), features)
    num_training = DEFAULT_NUM_PATIENTS if num_patients is None else num_patients
    plans = plan_cohort(
        num_sites, max(num_training, num_sites), seed=seed, has_defects=False
    )
    smallest = min(num_training, *(plan.site.num_patients for plan in plans))
    if smallest < contract.minimum_cell:
        raise ConfigError(
            "config.invalid",
            f"--patients {num_training} over {num_sites} sites leaves {smallest} at "
            f"the smallest; the contract's minimum is {contract.minimum_cell}.",
            remedy="Give more --patients or fewer --sites.",
        )
    held_out = plan_clean_hospital(
        held_out_site(max(MIN_HELD_OUT, round(num_training * HELD_OUT_SHARE))),
        seed=seed,
    )
    hospitals = [_synthesize(plan, folder, watch) for plan in (*plans, held_out)]
    return DemoCohort(
        contract=contract,
        hospitals=tuple(hospitals[:-1]),
        held_out=hospitals[-1],
        origin="synthetic",
        purpose="Shows the whole way on made-up patients; the figures mean nothing for "
        "real ones.",
        learning_rate=2e-3,
    )


def split_public_table(
    folder: Path,
    *,
    clinical_table: Path,
    series_table: Path | None,
    num_sites: int,
    num_patients: int | None,
    seed: int,
    features: tuple[str, ...],
    note: Callable[[str], None],
) -> DemoCohort:
    """Divide the public cohort's table into two pseudo-sites and a held-out fifth.

    Raises:
        ConfigError: An option does not go with a real table, or a forbidden feature.
        DataError: A table is missing, empty, unreadable or lacks a column.
    """
    if num_patients is not None:
        raise ConfigError(
            "config.invalid",
            "--patients is for made-up patients; --clinical takes all of the table.",
            remedy="Leave --patients out.",
        )
    contract = _with_features(shipped_contract("crlm").without_imaging(), features)
    names = write_public_cohort_sites(
        clinical_table,
        series_table or clinical_table.parent / SERIES_NAME,
        folder,
        seed=seed,
    )
    if num_sites != NUM_PSEUDO_SITES:
        note(f"--clinical makes {NUM_PSEUDO_SITES} pseudo-sites, by slice count")
    hospitals = [
        Hospital(
            name=name,
            sources=CohortSources(clinical_table=folder / name / "clinical.csv"),
        )
        for name in names
    ]
    note(f"{', '.join(names)}: written from {clinical_table.name}")
    return DemoCohort(
        contract=contract,
        hospitals=tuple(hospitals[:-1]),
        held_out=hospitals[-1],
        origin="public",
        purpose="The public cohort's clinical table alone: one hospital, divided into "
        "two pseudo-sites by slice count; images are declared missing.",
        learning_rate=1e-3,
    )


def _with_features(contract: DataContract, features: tuple[str, ...]) -> DataContract:
    return contract.with_features(features) if features else contract


def _synthesize(plan: HospitalPlan, folder: Path, watch: Watch) -> Hospital:
    site = plan.site
    target = folder / site.name
    watch(site.name, site.num_patients, synthesize_hospital(plan, target))
    return Hospital(
        name=site.name,
        sources=made_up_sources(site, target),
        settings=settings_of(site, data_folder=target),
        habits=_describe_habits(site),
    )


def _describe_habits(site: SyntheticSite) -> str:
    form = table_form(site.table)
    dialect = form.mapping.dialect
    facts = {
        f"table {form.file_name}": True,
        "own headings": bool(form.mapping.column_names),
        "own codes": bool(dialect.codes),
        "decimal commas": dialect.decimal_mark == ",",
        "percent signs": bool(dialect.percent),
        f"masks {site.form.masks}": True,
        f"pixels {site.form.coding}": site.form.coding != "plain",
        "some CT multi-frame": site.frames_every > 0,
        "headers with other people's sex and age": site.has_other_demographics,
    }
    return ", ".join(fact for fact, is_true in facts.items() if is_true)
