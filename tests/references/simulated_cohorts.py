"""Patients for simulations: a clinical table as a file, and prepared stores."""

import csv
from pathlib import Path

from references.cohorts import make_cohort

from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.prepared.manifest import PatientRecord
from acfnet_core.cohort.prepared.store_parts import StorePart, write_store
from acfnet_core.cohort.synthetic.patient import draw_patient

RUN_TOML = """\
[run]
name = "{name}"
study = "A simulation"
sites = ["north", "south"]
rounds = {rounds}
seed = 3
data_origin = "synthetic"
[model]
channels = 8
token_width = 8
[training]
local_epochs = 1
batch_size = 16
learning_rate = 5e-3
{further}
"""


def write_run_toml(
    folder: Path, name: str, *, rounds: int = 2, further: str = ""
) -> Path:
    """Write a run of a small network; the last sections may be given."""
    path = folder / f"{name}.toml"
    path.write_text(RUN_TOML.format(name=name, rounds=rounds, further=further))
    return path


def write_table(path: Path, num_patients: int, *, seed: int) -> Path:
    """Write a made-up table as the shipped contract asks for, without scans."""
    rows = []
    for index in range(num_patients):
        patient = draw_patient("site", index, seed=seed, scans_missing_probability=1.0)
        row = {**patient.row, "Patient-ID": f"patient-{index:04d}"}
        row.pop("date_of_liver_resection", None)
        rows.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_records(num_patients: int, *, seed: int) -> tuple[PatientRecord, ...]:
    """Draw patients without scans, as a manifest has them."""
    return tuple(
        PatientRecord(
            pseudonym=patient.pseudonym,
            clinical=tuple(patient.clinical.tolist()),
            clinical_mask=tuple(patient.clinical_mask.tolist()),
            scans=(),
            time_months=patient.time_months,
            event=patient.event,
            fong_score=patient.fong_score,
        )
        for patient in make_cohort(num_patients, seed=seed).patients
    )


def table_contract() -> DataContract:
    """Return the shipped contract for tables alone."""
    return shipped_contract("crlm").without_imaging()


def write_site(folder: Path, num_patients: int, *, seed: int) -> Path:
    """Write a site's folder: prepared patients and their contract."""
    folder.mkdir(parents=True)
    contract = table_contract()
    (folder / "contract.toml").write_text(contract_to_toml(contract))
    part = StorePart(folder, make_records(num_patients, seed=seed), None)
    write_store(folder / "prepared", [part], contract=contract)
    return folder
