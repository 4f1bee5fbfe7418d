"""Made-up hospitals that differ as real ones do: scanner, archive, table, headers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from acfnet_core.cohort.synthetic.hospital import (
    HospitalPlan,
    plan_clean_hospital,
    plan_hospital,
)
from acfnet_core.cohort.synthetic.hospital_files import synthesize_hospital
from acfnet_core.cohort.synthetic.sites import (
    PatientWritten,
    SyntheticSite,
    default_sites,
)
from acfnet_core.cohort.synthetic.study_files import PLAIN_FORM, StudyForm
from acfnet_core.cohort.synthetic.table_forms import TableFormName


@dataclass(frozen=True, kw_only=True)
class _Habits:
    """What the next hospital in turn does in its own way."""

    table: TableFormName
    form: StudyForm = PLAIN_FORM
    slice_spacing_mm: float
    num_with_rivals: int = 0
    frames_every: int = 0
    has_digits_for_id: bool = False
    has_other_demographics: bool = False


_HABITS = (
    _Habits(table="public", slice_spacing_mm=5.0, num_with_rivals=3, frames_every=3),
    _Habits(table="german", slice_spacing_mm=2.5, form=StudyForm(masks="RTSTRUCT")),
    _Habits(
        table="percent",
        slice_spacing_mm=7.5,
        form=StudyForm(coding="JPEG 2000"),
        has_digits_for_id=True,
        has_other_demographics=True,
    ),
    _Habits(table="french", slice_spacing_mm=1.5, form=StudyForm(masks="NIfTI")),
)
"""In turn; a fifth hospital is as the first."""


@dataclass(frozen=True, kw_only=True)
class HospitalWritten:
    """A hospital's files are all on disk."""

    plan: HospitalPlan
    folder: Path


def plan_cohort(
    num_sites: int,
    num_patients: int,
    *,
    seed: int,
    has_dialects: bool = True,
    has_defects: bool = True,
) -> tuple[HospitalPlan, ...]:
    """Decide on the hospitals of a cohort.

    Args:
        num_sites: From 1 to 26.
        num_patients: Of all sites together, at least one a site.
        seed: 0 or more.
        has_dialects: Whether hospitals write tables, masks and pixels in their own way,
            rather than all as the public cohort does.
        has_defects: Whether something is wrong at each hospital.

    Raises:
        ValueError: A number is out of its range.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    sites = default_sites(num_sites, num_patients)
    if has_dialects:
        sites = tuple(
            _with_habits(site, _HABITS[number % len(_HABITS)])
            for number, site in enumerate(sites)
        )
    plan = plan_hospital if has_defects else plan_clean_hospital
    return tuple(plan(site, seed=seed) for site in sites)


def synthesize_cohort(
    plans: tuple[HospitalPlan, ...], folder: Path, *, num_workers: int = 2
) -> Iterator[PatientWritten | HospitalWritten]:
    """Write hospitals, each into a folder of its name.

    Returns:
        Events, one for each patient and one for each hospital after its last.

    Raises:
        MachineError: A folder has a cohort in it, or cannot be written.
    """
    for plan in plans:
        hospital = folder / plan.site.name
        yield from synthesize_hospital(plan, hospital, num_workers=num_workers)
        yield HospitalWritten(plan=plan, folder=hospital)


def _with_habits(site: SyntheticSite, habits: _Habits) -> SyntheticSite:
    return replace(site, **vars(habits))
