"""A made-up hospital with the faults of a real one, decided before a file is written.

Who has no images, who is missing from the table, and which study or row has which
defect follow from the seed and the site. No patient has two defects, so that each is
found by itself.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from acfnet_core.cohort.synthetic.answer_key import AnswerKey, ImageAnswer, TableAnswer
from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.patient import SyntheticPatient, patient_rng
from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
from acfnet_core.cohort.synthetic.table_defects import TABLE_DEFECTS

MOST_IMAGE_DEFECTS = 3
MOST_TABLE_DEFECTS = 2
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
    """The row of patient number `index` has the fault."""

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
        has_table_defects: Whether the table has one or two faults.

    Raises:
        ValueError: A kind is unknown, or the site's files cannot have it.
    """
    rng = patient_rng(site.name, _NOBODY, seed=seed, stream=0)
    patients = draw_site(site, seed=seed)
    possible = possible_defects(site)
    if kinds is None:
        count = 1 + int(rng.integers(MOST_IMAGE_DEFECTS))
        kinds = tuple(map(str, rng.choice(possible, size=count, replace=False)))
    elif not set(kinds) <= set(possible):
        raise ValueError(f"kinds must be of {possible}, got {kinds}")
    order = [int(number) for number in rng.permutation(len(patients))]
    without_images, not_in_table, rest = _set_apart(patients, order)
    imaged = [n for n in rest if patients[n - 1].scans][: len(kinds)]
    image_defects = tuple(
        ImageDefectPlan(
            kind=kind,
            index=index,
            position=int(rng.integers(len(patients[index - 1].scans))),
        )
        for kind, index in zip(kinds, imaged, strict=False)
    )
    in_table = [one.index for one in patients if one.index not in not_in_table]
    sound = [n for n in rest if n not in imaged]
    return HospitalPlan(
        site=site,
        seed=seed,
        without_images=without_images,
        not_in_table=not_in_table,
        image_defects=image_defects,
        table_defects=(
            _draw_faults(rng, sound, _rows_before(in_table, imaged))
            if has_table_defects
            else ()
        ),
    )


def possible_defects(site: SyntheticSite) -> tuple[str, ...]:
    """Return the kinds of image defects that a site's files can have."""
    form = site.form
    return tuple(
        kind
        for kind, defect in DEFECTS.items()
        if form.masks in defect.formats
        and (form.coding == "plain" or not defect.needs_plain_pixels)
    )


def answer_key_of(plan: HospitalPlan) -> AnswerKey:
    """Return what must be found in a hospital that is written as planned."""
    site = plan.site
    patients = draw_site(site, seed=plan.seed)
    planted = [DEFECTS[one.kind] for one in plan.image_defects]
    listed = [one for one in patients if one.index not in plan.not_in_table]
    strangers = [
        one
        for one in patients
        if one.index in plan.not_in_table and plan.has_images(one)
    ]
    return AnswerKey(
        site=site.name,
        seed=plan.seed,
        table=site.table,
        masks=site.form.masks,
        coding=site.form.coding,
        has_other_demographics=site.has_other_demographics,
        num_patients=len(listed),
        num_patients_without_images=sum(not plan.has_images(one) for one in listed),
        num_patients_not_in_table=len(strangers)
        + sum(one.num_strangers for one in planted)
        + _num_lost_identifiers(plan, patients),
        num_series=sum(len(one.scans) for one in patients if plan.has_images(one)),
        num_files_ignored=sum(one.num_ignored for one in planted),
        num_files_broken=sum(one.num_broken for one in planted),
        image_defects=tuple(_answer_image(one, plan) for one in plan.image_defects),
        table_defects=tuple(_answer_table(one, plan) for one in plan.table_defects),
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


def _rows_before(in_table: list[int], imaged: list[int]) -> dict[int, int]:
    """Return whose row follows on that of somebody without a defect, and on whose."""
    pairs = itertools.pairwise(in_table)
    return {after: before for before, after in pairs if before not in imaged}


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


def _num_lost_identifiers(
    plan: HospitalPlan, patients: tuple[SyntheticPatient, ...]
) -> int:
    """Return how many patients with images lost their identifier in the table."""
    return sum(
        TABLE_DEFECTS[one.kind].column == "Patient-ID"
        and plan.has_images(patients[one.index - 1])
        for one in plan.table_defects
    )


def _answer_image(one: ImageDefectPlan, plan: HospitalPlan) -> ImageAnswer:
    defect = DEFECTS[one.kind]
    return ImageAnswer(
        kind=one.kind,
        meaning=defect.meaning,
        row=plan.row_of(one.index),
        study=one.position + 1,
        found_by=defect.found_by,
        series_codes=defect.series_codes,
        study_codes=defect.study_codes,
    )


def _answer_table(one: TableDefectPlan, plan: HospitalPlan) -> TableAnswer:
    fault = TABLE_DEFECTS[one.kind]
    return TableAnswer(
        kind=one.kind,
        meaning=fault.meaning,
        rule=fault.rule,
        column=fault.column,
        row=plan.row_of(one.index),
    )
