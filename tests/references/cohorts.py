"""Made-up prepared cohorts in memory: clinical rows and outcomes, no file, no scan."""

from pathlib import Path

import numpy as np

from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.prepared.store import (
    PreparedCohort,
    PreparedInputs,
    PreparedPatient,
)

SHARE_MISSING = 0.1


def make_cohort(
    num_patients: int, *, seed: int, contract: DataContract | None = None
) -> PreparedCohort:
    """Draw patients of whom the first clinical value tells when the event comes.

    Args:
        num_patients: How many.
        seed: Decides everything about them.
        contract: The shipped one for tables alone if not given.
    """
    contract = contract or shipped_contract("crlm").without_imaging()
    generator = np.random.default_rng(seed)
    return PreparedCohort(
        contract=contract,
        folder=Path("in-memory"),
        patients=tuple(
            _draw_patient(f"patient-{seed}-{index}", generator, contract)
            for index in range(num_patients)
        ),
    )


def with_events(cohort: PreparedCohort, num_events: int) -> PreparedCohort:
    """Return the cohort with an event for the first `num_events`, and for no other."""
    return PreparedCohort(
        contract=cohort.contract,
        folder=cohort.folder,
        patients=tuple(
            PreparedPatient(**{**vars(patient), "event": int(index < num_events)})
            for index, patient in enumerate(cohort.patients)
        ),
    )


def without_outcome(patient: PreparedPatient) -> PreparedInputs:
    """Return what is left of a patient whose outcome is not known."""
    return PreparedInputs(
        pseudonym=patient.pseudonym,
        clinical=patient.clinical,
        clinical_mask=patient.clinical_mask,
        scans=patient.scans,
    )


def _draw_patient(
    key: str, generator: np.random.Generator, contract: DataContract
) -> PreparedPatient:
    num_features = contract.num_clinical_features
    known = generator.random(num_features) > SHARE_MISSING
    known[0] = True
    clinical = np.where(known, generator.normal(size=num_features), 0.0)
    failure = generator.exponential(30.0 * np.exp(-1.5 * clinical[0]))
    dropout = generator.uniform(6.0, 90.0)
    return PreparedPatient(
        pseudonym=key,
        clinical=clinical.astype(np.float32),
        clinical_mask=known,
        time_months=float(min(failure, dropout)) + 0.5,
        event=int(failure <= dropout),
        fong_score=float(generator.integers(0, 6)),
        scans=(),
    )
