"""Which cohorts an evaluation is asked for: a table, or a file that describes one."""

from pathlib import Path

from acfnet_core.cohort.data_settings import refuse_missing_files
from acfnet_core.cohort.sources import CohortSources, read_cohort_file
from acfnet_core.errors import ConfigError

COHORT_FILE_SUFFIX = ".toml"


def held_out_sources(
    *, clinical: Path | None, images: Path | None, cohort: Path | None
) -> CohortSources:
    """Return where the held-out cohort lies, and how it is read.

    Args:
        clinical: Its table, written as the contract says; in place of `cohort`.
        images: The images that belong to `clinical`, if there are any.
        cohort: A file that describes it as site.toml describes a site's.

    Raises:
        ConfigError: Both ways or neither was taken, or the file has faults.
        DataError: The table or the folder of images is not there.
    """
    if cohort is not None and (clinical is not None or images is not None):
        other = "--images" if clinical is None else "--clinical"
        raise _two_ways(
            f"--cohort and {other} are both given; the file has table and images."
        )
    if cohort is not None:
        sources = read_cohort_file(cohort)
    elif clinical is not None:
        sources = CohortSources(clinical_table=clinical, images_folder=images)
    else:
        raise _two_ways("neither --clinical nor --cohort is given.")
    refuse_missing_files(sources.clinical_table, sources.images_folder)
    return sources


def reference_sources(path: Path) -> CohortSources:
    """Return a table on which baselines may be fitted, and how it is read.

    Args:
        path: A table, or a file (.toml) that describes a cohort.

    Raises:
        ConfigError: The file has faults.
        DataError: The table is not there.
    """
    if path.suffix.lower() == COHORT_FILE_SUFFIX:
        sources = read_cohort_file(path)
    else:
        sources = CohortSources(clinical_table=path)
    refuse_missing_files(sources.clinical_table, None)
    return sources


def _two_ways(fault: str) -> ConfigError:
    return ConfigError(
        "config.invalid",
        f"options: {fault}",
        remedy="Give either --clinical TABLE with, if there are any, --images FOLDER, "
        "or --cohort FILE alone.",
    )
