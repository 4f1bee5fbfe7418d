"""A cohort as it stood at a landmark: who was still free then, and what was known.

A prediction that is made s months after the resection may use the scans up to s, and
speaks of those patients alone who were still free of the event and followed at s. All
times count from s, so that a model learns and is judged as it would be asked then.

Source: van Houwelingen 2007, doi:10.1111/j.1467-9469.2006.00529.x, section 2.
"""

from dataclasses import replace

from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.store import PreparedCohort


def view_at_landmark(
    cohort: PreparedCohort, landmark_months: float | None
) -> PreparedCohort:
    """Return the cohort as it is seen from a landmark.

    Args:
        cohort: Prepared patients, whose times count from the resection.
        landmark_months: The landmark s in months after the resection; before it
            negative. None is no landmark: the cohort itself.

    Returns:
        The patients with an outcome later than s, in their order, and all who have no
        outcome, since nothing tells whether they were still free of it at s; of their
        scans those at s or before; times of outcomes and scans less s.
    """
    if landmark_months is None:
        return cohort
    return replace(
        cohort,
        patients=tuple(
            replace(
                patient,
                time_months=patient.time_months - landmark_months,
                scans=_view_scans(patient.scans, landmark_months),
            )
            for patient in cohort.patients
            if patient.time_months > landmark_months
        ),
        without_outcome=tuple(
            replace(patient, scans=_view_scans(patient.scans, landmark_months))
            for patient in cohort.without_outcome
        ),
    )


def _view_scans(
    scans: tuple[ScanRecord, ...], landmark_months: float
) -> tuple[ScanRecord, ...]:
    return tuple(
        scan.model_copy(update={"time_months": scan.time_months - landmark_months})
        for scan in scans
        if scan.time_months <= landmark_months
    )
