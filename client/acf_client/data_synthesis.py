"""Made-up hospitals for trying things out, at the wish of a site's operator."""

from collections.abc import Iterator
from pathlib import Path

from acfnet_core.cohort.synthetic.cohort_mix import (
    HospitalWritten,
    plan_cohort,
    synthesize_cohort,
)
from acfnet_core.cohort.synthetic.sites import PatientWritten
from acfnet_core.errors import ConfigError


def synthesize_hospitals(
    folder: Path,
    *,
    num_sites: int,
    num_patients: int,
    seed: int,
    has_dialects: bool,
    has_defects: bool,
    num_workers: int,
) -> Iterator[PatientWritten | HospitalWritten]:
    """Make up hospitals, each in a folder of its own, while events are taken.

    Raises:
        ConfigError: There are fewer patients than sites.
        MachineError: A folder has a cohort in it, or cannot be written.
    """
    if num_patients < num_sites:
        raise ConfigError(
            "config.invalid",
            f"--patients {num_patients} is fewer than --sites {num_sites}; every site "
            "needs one at least.",
            remedy="Give more --patients or fewer --sites.",
        )
    plans = plan_cohort(
        num_sites,
        num_patients,
        seed=seed,
        has_dialects=has_dialects,
        has_defects=has_defects,
    )
    return synthesize_cohort(plans, folder, num_workers=num_workers)


def describe_hospital(written: HospitalWritten) -> dict[str, object]:
    """Return what was written for one hospital, for `--json`."""
    plan = written.plan
    return {
        "site": plan.site.name,
        "folder": str(written.folder),
        "num_patients": plan.site.num_patients,
        "table": plan.site.table,
        "masks": plan.site.form.masks,
        "coding": plan.site.form.coding,
        "num_image_defects": len(plan.image_defects),
        "num_table_defects": len(plan.table_defects),
    }
