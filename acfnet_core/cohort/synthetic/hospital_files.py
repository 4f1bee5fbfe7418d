"""Writing made-up hospitals with their defects, answer keys and settings."""

from collections.abc import Iterator
from pathlib import Path

from acfnet_core.cohort.synthetic.answer_key import ANSWER_KEY_NAME
from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.hospital import HospitalPlan
from acfnet_core.cohort.synthetic.hospital_truth import answer_key_of
from acfnet_core.cohort.synthetic.row_conflicts import ROW_CONFLICTS
from acfnet_core.cohort.synthetic.site_settings import SETTINGS_NAME, settings_of
from acfnet_core.cohort.synthetic.sites import (
    PatientWritten,
    draw_site,
    prepare_folder,
    write_images,
)
from acfnet_core.cohort.synthetic.study_files import find_study
from acfnet_core.cohort.synthetic.table_defects import TABLE_DEFECTS, spoil_row
from acfnet_core.cohort.synthetic.table_files import write_table
from acfnet_core.cohort.synthetic.table_forms import table_form
from acfnet_core.cohort.synthetic.workers import described_errors
from acfnet_core.files import write_atomically


def synthesize_hospital(
    plan: HospitalPlan, folder: Path, *, num_workers: int = 2
) -> Iterator[PatientWritten]:
    """Write a hospital's images, table, answer key and settings.

    The answer key is written last, so its presence says that all is there.

    Args:
        plan: Who is made up, and what is wrong.
        folder: The hospital's folder; it may exist, but without images or a table.
        num_workers: Processes to use; the files do not depend on it.

    Returns:
        Events, one per patient in order; the work is done while they are taken.

    Raises:
        ValueError: `num_workers` is below 1.
        MachineError: The folder has a cohort in it, or cannot be written.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    images = prepare_folder(plan.site, folder)
    return _write_hospital(plan, folder, images, num_workers)


def _write_hospital(
    plan: HospitalPlan, folder: Path, images: Path, num_workers: int
) -> Iterator[PatientWritten]:
    with described_errors(folder):
        yield from write_images(
            plan.site,
            images,
            seed=plan.seed,
            num_workers=num_workers,
            left_out=plan.without_images,
        )
        _plant_image_defects(plan, images)
        _write_spoilt_table(plan, folder)
    settings = settings_of(plan.site).encode()
    write_atomically(folder / SETTINGS_NAME, settings)
    key = answer_key_of(plan).model_dump_json(indent=2)
    write_atomically(folder / ANSWER_KEY_NAME, f"{key}\n".encode())


def _plant_image_defects(plan: HospitalPlan, images: Path) -> None:
    patients = draw_site(plan.site, seed=plan.seed)
    for one in plan.image_defects:
        patient = patients[one.index - 1]
        scan = patient.scans[one.position]
        DEFECTS[one.kind].plant(find_study(patient, scan, images))


def _write_spoilt_table(plan: HospitalPlan, folder: Path) -> None:
    form = table_form(plan.site.table)
    listed = [
        patient
        for patient in draw_site(plan.site, seed=plan.seed)
        if patient.index not in plan.not_in_table
    ]
    public = [dict(patient.row) for patient in listed]
    places = {patient.index: place for place, patient in enumerate(listed)}
    for one in plan.table_defects:
        if one.kind in ROW_CONFLICTS:
            row = public[places[one.index]]
            row.update(ROW_CONFLICTS[one.kind].changes(row))
    rows = [form.write_row(row) for row in public]
    for one in plan.table_defects:
        if one.kind in TABLE_DEFECTS:
            spoil_row(rows, places[one.index], TABLE_DEFECTS[one.kind])
    write_table(rows, form, folder / form.file_name)
