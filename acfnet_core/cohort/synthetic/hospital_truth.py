"""What must be found in a made-up hospital: its answer key, from its plan alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from acfnet_core.cohort.header_linkage import AGE_TOLERANCE_YEARS, Agreement
from acfnet_core.cohort.synthetic.answer_key import (
    AnswerKey,
    ConflictAnswer,
    ImageAnswer,
    LinkageAnswer,
    TableAnswer,
)
from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.hospital import (
    HospitalPlan,
    ImageDefectPlan,
    TableDefectPlan,
)
from acfnet_core.cohort.synthetic.patient import SyntheticPatient
from acfnet_core.cohort.synthetic.row_conflicts import ROW_CONFLICTS
from acfnet_core.cohort.synthetic.sites import draw_demographics, draw_site
from acfnet_core.cohort.synthetic.table_defects import TABLE_DEFECTS


@dataclass(frozen=True, kw_only=True)
class _ReadRow:
    """A row that has an identifier: whose it is, and whose column cannot be read."""

    patient: SyntheticPatient
    lost_column: str


def answer_key_of(plan: HospitalPlan) -> AnswerKey:
    """Return what must be found in a hospital that is written as planned."""
    site = plan.site
    patients = draw_site(site, seed=plan.seed)
    planted = [DEFECTS[one.kind] for one in plan.image_defects]
    listed = [one for one in patients if one.index not in plan.not_in_table]
    imaged = [one for one in patients if plan.has_images(one)]
    faults = [one for one in plan.table_defects if one.kind in TABLE_DEFECTS]
    conflicts = [one for one in plan.table_defects if one.kind in ROW_CONFLICTS]
    rows = list(_rows_read(listed, faults))
    return AnswerKey(
        site=site.name,
        seed=plan.seed,
        table=site.table,
        masks=site.form.masks,
        coding=site.form.coding,
        has_other_demographics=site.has_other_demographics,
        num_patients=len(listed),
        num_patients_without_images=sum(not plan.has_images(one) for one in listed),
        num_patients_not_in_table=sum(one.index in plan.not_in_table for one in imaged)
        + sum(one.num_strangers for one in planted)
        + _num_lost_identifiers(plan, patients, faults),
        num_series=sum(len(one.scans) for one in imaged),
        num_series_multi_frame=sum(
            len(one.scans) for one in imaged if site.form_of(one.index).ct == "frames"
        ),
        num_scans=_count_scans(plan, rows),
        num_files_ignored=sum(one.num_ignored for one in planted),
        num_files_broken=sum(one.num_broken for one in planted),
        linkage=_compare_headers(plan, rows),
        image_defects=tuple(_answer_image(one, plan) for one in plan.image_defects),
        table_defects=tuple(_answer_fault(one, plan) for one in faults),
        table_conflicts=tuple(_answer_conflict(one, plan) for one in conflicts),
    )


def _rows_read(
    listed: list[SyntheticPatient], faults: list[TableDefectPlan]
) -> Iterator[_ReadRow]:
    """Yield the rows as a reader meets them; one without identifier is nobody's."""
    fault_of = {one.index: TABLE_DEFECTS[one.kind] for one in faults}
    for place, patient in enumerate(listed):
        fault = fault_of.get(patient.index)
        if fault is None:
            yield _ReadRow(patient=patient, lost_column="")
        elif fault.cell is None:
            yield _ReadRow(patient=listed[place - 1], lost_column="")
        elif fault.rule != "missing_identifier":
            yield _ReadRow(patient=patient, lost_column=fault.column)


def _count_scans(plan: HospitalPlan, rows: list[_ReadRow]) -> int:
    """Return how many scans headers and dates allow."""
    refused = [
        one.index
        for one in plan.image_defects
        if DEFECTS[one.kind].study_codes and DEFECTS[one.kind].found_by == "check"
    ]
    return sum(
        len(row.patient.scans) - refused.count(row.patient.index)
        for row in rows
        if plan.has_images(row.patient)
    )


def _compare_headers(
    plan: HospitalPlan, rows: list[_ReadRow]
) -> dict[str, LinkageAnswer]:
    """Return for how many patients the headers say what the table says."""
    agrees: dict[str, list[bool]] = {"sex": [], "age": []}
    for row in rows:
        patient = row.patient
        if not plan.has_images(patient):
            continue
        said = draw_demographics(plan.site, patient.index, seed=plan.seed)
        difference = abs(said.age - patient.age)
        for name, is_same in (
            ("sex", said.is_female == patient.is_female),
            ("age", difference <= AGE_TOLERANCE_YEARS),
        ):
            if row.lost_column != name:
                agrees[name].append(is_same)
    return {name: _answer_linkage(found) for name, found in agrees.items()}


def _answer_linkage(agrees: list[bool]) -> LinkageAnswer:
    agreement = Agreement(num_compared=len(agrees), num_agreeing=sum(agrees))
    return LinkageAnswer(
        num_compared=agreement.num_compared,
        num_agreeing=agreement.num_agreeing,
        is_warned_of=agreement.is_doubtful,
    )


def _num_lost_identifiers(
    plan: HospitalPlan,
    patients: tuple[SyntheticPatient, ...],
    faults: list[TableDefectPlan],
) -> int:
    """Return how many patients with images lost their identifier in the table."""
    return sum(
        TABLE_DEFECTS[one.kind].column == "Patient-ID"
        and plan.has_images(patients[one.index - 1])
        for one in faults
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


def _answer_fault(one: TableDefectPlan, plan: HospitalPlan) -> TableAnswer:
    fault = TABLE_DEFECTS[one.kind]
    return TableAnswer(
        kind=one.kind,
        meaning=fault.meaning,
        rule=fault.rule,
        column=fault.column,
        row=plan.row_of(one.index),
    )


def _answer_conflict(one: TableDefectPlan, plan: HospitalPlan) -> ConflictAnswer:
    conflict = ROW_CONFLICTS[one.kind]
    return ConflictAnswer(
        kind=one.kind,
        meaning=conflict.meaning,
        rules=conflict.rules,
        row=plan.row_of(one.index),
    )
