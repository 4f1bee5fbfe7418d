"""A made-up prepared cohort with serial scans on the disk, small enough to train on."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from references.cohorts import make_cohort
from safetensors.numpy import save

from acfnet_core.cohort.contract import CHANNELS, DataContract, shipped_contract
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedPatient

GRID = (8, 16, 16)
SCAN_MONTHS = (-1.5, 5.0, 12.0, 20.0)
"""When patients are scanned; a patient has the first scans of these, or none."""


def serial_contract() -> DataContract:
    """Return the shipped contract on a tiny grid, with scans after the resection."""
    contract = shipped_contract("crlm")
    assert contract.imaging is not None
    imaging = contract.imaging.model_copy(
        update={"grid_shape": GRID, "latest_months": 24.0, "max_scans": 4}
    )
    return contract.model_copy(update={"imaging": imaging})


def make_serial_cohort(
    folder: Path, num_patients: int, *, seed: int = 3
) -> PreparedCohort:
    """Draw patients with 0, 1, ... 4 scans in turn, and write their scans."""
    cohort = make_cohort(num_patients, seed=seed, contract=serial_contract())
    patients = tuple(
        _with_scans(folder, patient, index, index % (len(SCAN_MONTHS) + 1))
        for index, patient in enumerate(cohort.patients)
    )
    return replace(cohort, folder=folder, patients=patients)


def write_scan(folder: Path, name: str, *, months: float, seed: int) -> ScanRecord:
    """Write one scan of noise under `scans/aa/`."""
    generator = np.random.default_rng(seed)
    content = save(
        {
            "ct_hu": generator.integers(20, 180, GRID).astype(np.int16),
            "labels": generator.integers(0, 8, GRID).astype(np.uint8),
        }
    )
    file = f"scans/aa/{name}.safetensors"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ScanRecord(
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        time_months=months,
        time_assumed=False,
        channel_mask=(True,) * len(CHANNELS),
    )


def _with_scans(
    folder: Path, patient: PreparedPatient, index: int, num_scans: int
) -> PreparedPatient:
    scans = tuple(
        write_scan(
            folder, f"{index:x}{number:x}", months=months, seed=10 * index + number
        )
        for number, months in enumerate(SCAN_MONTHS[:num_scans])
    )
    return replace(patient, scans=scans)
