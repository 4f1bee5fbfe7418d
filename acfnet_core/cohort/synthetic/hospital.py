"""A made-up hospital with the faults of a real one, decided before a file is written.

Who has no images, who is missing from the table, and which study or row has which
defect follow from the seed and the site. No patient has two defects, so that each is
found by itself.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.patient import SyntheticPatient, patient_rng
from acfnet_core.cohort.synthetic.row_conflicts import ROW_CONFLICTS
from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
from acfnet_core.cohort.synthetic.table import Cell
from acfnet_core.cohort.synthetic.table_defects import TABLE_DEFECTS

MOST_IMAGE_DEFECTS = 3
MOST_TABLE_DEFECTS = 2
MOST_ROW_CONFLICTS = 2
FEWEST_PATIENTS = 5
"""A smaller site has neither patients without images nor any outside the table."""

_NOBODY = 0
"""Number of no patient: its generator decides for the site."""


@dataclass(frozen=True, kw_only=True)
class ImageDefectPlan:
    """Patient number `index` has the defect in the study at `position`."""

    kind: str
    index: int
    position: int


@dataclass(frozen=True, kw_only=True)
class TableDefectPlan:
    """The row of patient number `index` has the fault, or the contradiction."""

    kind: str
    index: int


@dataclass(frozen=True, kw_only=True)
class HospitalPlan:
    """A site and what is wrong with it; patients go by their number, from 1."""

    site: SyntheticSite
    seed: int
    without_images: frozenset[int] = frozenset()
    not_in_table: frozenset[int] = frozenset()
    image_defects: tuple[ImageDefectPlan, ...] = ()
    table_defects: tuple[TableDefectPlan, ...] = ()

    def row_of(self, index: int) -> int:
        """Return the row of a patient of the table, as a spreadsheet counts."""
        return 1 + index - sum(other < index for other in self.not_in_table)

    def has_images(self, patient: SyntheticPatient) -> bool:
        """Tell whether a patient has any CT."""
        return patient.index not in self.without_images and bool(patient.scans)


def plan_clean_hospital(site: SyntheticSite, *, seed: int) -> HospitalPlan:
    """Return a hospital whose data is without fault."""
    return HospitalPlan(site=site, seed=seed)


def plan_hospital(
    site: SyntheticSite,
    *,
    seed: int,
    kinds: tuple[str, ...] | None = None,
    has_table_defects: bool = True,
) -> HospitalPlan:
    """Decide what is wrong with a hospital.

    Args:
        site: The hospital.
        seed: Of the whole cohort.
        kinds: Image defects, as far as there are patients for them; None draws one to
            three of those that the site can have.
        has_table_defects: Whether the table has one or two faults, and one or two rows
            that contradict themselves.

    Raises:
        ValueError: A kind is unknown, or the site's files cannot have it.
    """
    rng = patient_rng(site.name, _NOBODY, seed=seed, stream=0)
    patients = draw_site(site, seed=seed)
    possible = possible_defects(site)
    count = 1 + int(rng.integers(MOST_IMAGE_DEFECTS))
    if kinds is None:
        kinds = tuple(map(str, rng.permutation(possible)))
    elif not set(kinds) <= set(possible):
        raise ValueError(f"kinds must be of {possible}, got {kinds}")
    else:
        count = len(kinds)
    order = [int(number) for number in rng.permutation(len(patients))]
    without_images, not_in_table, rest = _set_apart(patients, order)
    chosen = _choose_patients(site, kinds, [patients[n - 1] for n in rest], count)
    sound = [n for n in rest if n not in chosen.values()]
    in_table = [one for one in patients if one.index not in not_in_table]
    return HospitalPlan(
        site=site,
        seed=seed,
        without_images=without_images,
        not_in_table=not_in_table,
        image_defects=tuple(
            ImageDefectPlan(
                kind=kind,
                index=index,
                position=int(rng.integers(len(patients[index - 1].scans))),
            )
            for kind, index in chosen.items()
        ),
        table_defects=(
            _spoil_table(rng, sound, in_table, set(chosen.values()))
            if has_table_defects
            else ()
        ),
    )


def possible_defects(site: SyntheticSite) -> tuple[str, ...]:
    """Return the kinds of image defects that a site's files can have."""
    form = site.form
    written = {site.form_of(n).ct for n in range(1, site.num_patients + 1)}
    return tuple(
        kind
        for kind, defect in DEFECTS.items()
        if form.masks in defect.formats
        and not written.isdisjoint(defect.ct_formats)
        and (form.coding == "plain" or not defect.needs_plain_pixels)
    )


def _set_apart(
    patients: tuple[SyntheticPatient, ...], order: list[int]
) -> tuple[frozenset[int], frozenset[int], list[int]]:
    """Return who has no images, who is not in the table, and all others."""
    numbers = [patients[position].index for position in order]
    if len(numbers) < FEWEST_PATIENTS:
        return frozenset(), frozenset(), numbers
    # Somebody outside the table is seen by their images alone.
    stranger = next((n for n in numbers if patients[n - 1].scans), None)
    unseen = next(n for n in numbers if n != stranger)
    rest = [n for n in numbers if n not in (stranger, unseen)]
    outside = frozenset() if stranger is None else frozenset({stranger})
    return frozenset({unseen}), outside, rest


def _choose_patients(
    site: SyntheticSite,
    kinds: tuple[str, ...],
    patients: list[SyntheticPatient],
    count: int,
) -> dict[str, int]:
    """Return whom the first `count` kinds befall for which there is still somebody."""
    chosen: dict[str, int] = {}
    for kind in kinds:
        fit = [
            one.index
            for one in patients
            if one.scans
            and one.index not in chosen.values()
            and site.form_of(one.index).ct in DEFECTS[kind].ct_formats
        ]
        if fit and len(chosen) < count:
            chosen[kind] = fit[0]
    return chosen


def _spoil_table(
    rng: np.random.Generator,
    sound: list[int],
    in_table: list[SyntheticPatient],
    imaged: set[int],
) -> tuple[TableDefectPlan, ...]:
    """Draw faults, and contradictions in rows that the faults leave alone."""
    before = {
        after.index: one.index
        for one, after in itertools.pairwise(in_table)
        if one.index not in imaged
    }
    faults = _draw_faults(rng, sound, before)
    spoilt = {one.index for one in faults}
    # A row that is repeated must not take a contradiction with it.
    spoilt |= {
        before[one.index] for one in faults if TABLE_DEFECTS[one.kind].cell is None
    }
    rows = {one.index: one.row for one in in_table}
    free = [n for n in sound if n not in spoilt]
    return (*faults, *_draw_conflicts(rng, {n: rows[n] for n in free}))


def _draw_conflicts(
    rng: np.random.Generator, rows: dict[int, dict[str, Cell]]
) -> tuple[TableDefectPlan, ...]:
    """Draw contradictions of different kinds, each in a row of its own."""
    count = 1 + int(rng.integers(MOST_ROW_CONFLICTS))
    drawn: dict[int, str] = {}
    for kind in map(str, rng.permutation(list(ROW_CONFLICTS))):
        fits = ROW_CONFLICTS[kind].fits
        fit = [n for n, row in rows.items() if n not in drawn and fits(row)]
        if fit and len(drawn) < count:
            drawn[fit[0]] = kind
    return tuple(TableDefectPlan(kind=kind, index=n) for n, kind in drawn.items())


def _draw_faults(
    rng: np.random.Generator, sound: list[int], before: dict[int, int]
) -> tuple[TableDefectPlan, ...]:
    """Draw faults of different columns, for patients without a defect.

    A row is repeated only where nobody's defect or fault is repeated with it.
    """
    count = 1 + int(rng.integers(MOST_TABLE_DEFECTS))
    drawn: dict[str, TableDefectPlan] = {}
    taken: set[int] = set()
    for kind in map(str, rng.permutation(list(TABLE_DEFECTS))):
        fault = TABLE_DEFECTS[kind]
        repeats = fault.cell is None
        fit = [
            number
            for number in sound
            if number not in taken
            and (not repeats or (number in before and before[number] not in taken))
        ]
        if fit and fault.column not in drawn and len(drawn) < count:
            drawn[fault.column] = TableDefectPlan(kind=kind, index=fit[0])
            taken |= {fit[0], before[fit[0]]} if repeats else {fit[0]}
    return tuple(drawn.values())
