"""A made-up prepared cohort with small scans in memory, for training on images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from references.cohorts import make_cohort

from acfnet_core.cohort.contract import CHANNELS
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.store import (
    PreparedCohort,
    PreparedInputs,
    PreparedPatient,
)

SMALL_GRID = (8, 16, 16)


@dataclass(frozen=True, kw_only=True)
class ScanCohort(PreparedCohort):
    """A cohort whose scans are drawn when asked for, by the patient's pseudonym."""

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        return SMALL_GRID

    def load_scans(
        self, patient: PreparedInputs
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        generator = np.random.default_rng(int(patient.pseudonym.rpartition("-")[2]))
        shape = (len(patient.scans), len(CHANNELS))
        scans = generator.normal(size=(*shape, *SMALL_GRID)).astype(np.float32)
        times = np.array([scan.time_months for scan in patient.scans], np.float32)
        return scans, times, np.ones(shape, np.bool_)


def make_scan_cohort(num_patients: int, *, seed: int) -> ScanCohort:
    """Draw patients with no scan, one or two, in turn."""
    cohort = make_cohort(num_patients, seed=seed)
    patients = tuple(
        PreparedPatient(**{**vars(patient), "scans": _scans(index % 3)})
        for index, patient in enumerate(cohort.patients)
    )
    return ScanCohort(
        contract=cohort.contract, folder=Path("in-memory"), patients=patients
    )


def _scans(number: int) -> tuple[ScanRecord, ...]:
    return tuple(
        ScanRecord(
            file="scans/a/0.safetensors",
            sha256="0" * 64,
            time_months=float(3 * index - 1),
            time_assumed=False,
            channel_mask=(True,) * len(CHANNELS),
        )
        for index in range(number)
    )
