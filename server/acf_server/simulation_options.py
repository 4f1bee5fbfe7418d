"""Which options of `acf-server simulate` go together, and what they mean."""

from pathlib import Path
from typing import NoReturn

from acf_server.evaluation_sources import COHORT_FILE_SUFFIX
from acf_server.simulation_data import DividedTable, PreparedSites, SimulatedCohorts
from acf_server.simulation_result import Engine
from acfnet_core.cohort.data_settings import refuse_missing_files
from acfnet_core.cohort.site_splits import DEFAULT_CONCENTRATION, SplitKind
from acfnet_core.cohort.sources import CohortSources, read_cohort_file
from acfnet_core.errors import ConfigError

DEFAULT_CONTRACT = "crlm"


def choose_cohorts(
    *,
    folders: tuple[Path, ...],
    clinical: Path | None,
    images: Path | None,
    contract: str | None,
    num_sites: int | None,
    split: SplitKind | None,
    skew: float | None,
    sites_of_run: int,
) -> SimulatedCohorts:
    """Return the patients that the options name.

    Args:
        folders: Of --cohort.
        clinical: Of --clinical.
        images: Of --images.
        contract: Of --contract.
        num_sites: Of --sites.
        split: Of --split.
        skew: Of --skew.
        sites_of_run: How many sites run.toml names.

    Raises:
        ConfigError: Options contradict each other, or the table's file has faults.
        DataError: The table or the folder of images is not there.
    """
    if bool(folders) == (clinical is not None):
        _refuse("give either --cohort FOLDER, once for each site, or --clinical TABLE")
    if clinical is None:
        _refuse_for_cohorts(
            {
                "--images": images,
                "--contract": contract,
                "--sites": num_sites,
                "--split": split,
                "--skew": skew,
            }
        )
        return PreparedSites(folders=folders)
    split = split or "iid"
    if skew is not None and (split == "iid" or not 0.0 < skew < float("inf")):
        _refuse("--skew is a number above 0 and goes with --split label or size")
    sources = _sources(clinical, images)
    refuse_missing_files(sources.clinical_table, sources.images_folder)
    return DividedTable(
        sources=sources,
        contract=contract or DEFAULT_CONTRACT,
        num_sites=num_sites or sites_of_run,
        split=split,
        concentration=DEFAULT_CONCENTRATION if skew is None else skew,
    )


def choose_workers(workers: int | None, *, engine: Engine) -> int:
    """Return how many sites train at a time.

    Raises:
        ConfigError: Several are asked for in one process.
    """
    if engine == "in-process" and workers is not None and workers > 1:
        _refuse("--workers goes with --engine ray; in one process it is one at a time")
    return workers or 1


def _sources(clinical: Path, images: Path | None) -> CohortSources:
    if clinical.suffix.lower() != COHORT_FILE_SUFFIX:
        return CohortSources(clinical_table=clinical, images_folder=images)
    if images is not None:
        _refuse("--images goes with a table; the .toml says where the images are")
    return read_cohort_file(clinical)


def _refuse_for_cohorts(given: dict[str, object]) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        _refuse(f"{', '.join(names)}: for a table that is divided, not with --cohort")


def _refuse(fault: str) -> NoReturn:
    raise ConfigError(
        "config.invalid",
        f"options: {fault}.",
        remedy="Correct the options; see: acf-server simulate --help",
    )
