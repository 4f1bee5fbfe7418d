"""Made-up hospitals on disk, small enough for tests, and the sources that read them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from acfnet_core.cohort.check import CheckReport, check_cohort
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    StudyRefused,
)
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.cohort_mix import plan_cohort
from acfnet_core.cohort.synthetic.hospital import HospitalPlan, plan_clean_hospital
from acfnet_core.cohort.synthetic.hospital_files import synthesize_hospital
from acfnet_core.cohort.synthetic.nifti_files import NIFTI_LABELS
from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
from acfnet_core.cohort.synthetic.study_files import WrittenStudy, find_study
from acfnet_core.cohort.synthetic.table_forms import table_form

CRLM = shipped_contract("crlm")
QUICK_SPACING_MM = 9.5


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """A hospital that was written."""

    plan: HospitalPlan
    folder: Path

    @property
    def sources(self) -> CohortSources:
        """Where its data lies, with what its site.toml says."""
        return sources_of(self.plan.site, self.folder)

    def check(self) -> CheckReport:
        """Return what `data check` finds."""
        return check_cohort(CRLM, self.sources)

    def prepare(self, store: Path) -> tuple[CohortFinished, list[StudyRefused]]:
        """Prepare the data; return the last event and the studies that were refused."""
        events = list(
            prepare_cohort(
                CRLM, self.sources, store, pseudonym_key=bytes(32), num_workers=1
            )
        )
        finished = events[-1]
        assert isinstance(finished, CohortFinished)
        return finished, [e for e in events if isinstance(e, StudyRefused)]

    def studies(self) -> Iterator[WrittenStudy]:
        """Yield where the studies lie, patient by patient."""
        for patient in draw_site(self.plan.site, seed=self.plan.seed):
            for scan in patient.scans:
                yield find_study(patient, scan, self.folder / "images")

    def copy(self, folder: Path) -> "Hospital":
        """Return a copy whose files may be changed."""
        shutil.copytree(self.folder, folder)
        return Hospital(plan=self.plan, folder=folder)


def sources_of(site: SyntheticSite, folder: Path) -> CohortSources:
    """Return where a made-up site's data lies."""
    form = table_form(site.table)
    return CohortSources(
        clinical_table=folder / form.file_name,
        images_folder=folder / "images",
        mapping=form.mapping,
        nifti_labels=NIFTI_LABELS if site.form.masks == "NIfTI" else {},
    )


def quick(site: SyntheticSite) -> SyntheticSite:
    """Return the same site with few slices."""
    return replace(site, slice_spacing_mm=QUICK_SPACING_MM)


def quick_sites(num_patients: int) -> tuple[SyntheticSite, ...]:
    """Return one site of each kind, with so many patients each."""
    return tuple(
        replace(quick(plan.site), num_patients=num_patients)
        for plan in plan_cohort(4, 40, seed=0)
    )


def write_hospital(plan: HospitalPlan, folder: Path) -> Hospital:
    """Write a hospital with one process."""
    list(synthesize_hospital(plan, folder, num_workers=1))
    return Hospital(plan=plan, folder=folder)


def write_clean_hospital(site: SyntheticSite, folder: Path, *, seed: int) -> Hospital:
    """Write a hospital without fault."""
    return write_hospital(plan_clean_hospital(site, seed=seed), folder)
