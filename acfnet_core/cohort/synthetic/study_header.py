"""What the files of one made-up study agree on: patient, day, marks, folders.

Every file of a study says in some attribute that it is made up: the series of a CT by
its description, all others by their manufacturer.
"""

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.patient import PlannedScan, SyntheticPatient

STUDY_DESCRIPTION = "CT ANGIO ABD WITH PEL"
MANUFACTURER = "ACFNET SYNTHETIC"
STUDY_TIME = "120000"
ISSUER = "CRLM-SYN"
"""Stands as issuer beside identifiers that do not begin with it themselves."""


@dataclass(frozen=True, kw_only=True)
class Demographics:
    """What a header says of the person."""

    is_female: bool
    age: int

    @classmethod
    def of(cls, patient: SyntheticPatient) -> "Demographics":
        """Return what the table says of a patient."""
        return cls(is_female=patient.is_female, age=patient.age)


def study_uid_of(patient: SyntheticPatient, scan: PlannedScan) -> str:
    """Return the study's unique identifier, from which its other ones are made."""
    return make_uid("study", patient.seed, patient.patient_id, scan.index)


def study_folder_of(patient: SyntheticPatient, scan: PlannedScan, images: Path) -> Path:
    """Return a study's folder below a site's images, as TCIA lays it out."""
    number = study_uid_of(patient, scan)[-5:]
    day = f"{scan.study_date:%m-%d-%Y}"
    return images / patient.patient_id / f"{day}-NA-{STUDY_DESCRIPTION}-{number}"


def describe_study(
    dataset: Dataset,
    patient: SyntheticPatient,
    scan: PlannedScan,
    demographics: Demographics,
) -> None:
    """Write into a header whose study it is and when it was made."""
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyDate = f"{scan.study_date:%Y%m%d}"
    dataset.StudyTime = STUDY_TIME
    dataset.AccessionNumber = ""
    dataset.Manufacturer = MANUFACTURER
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = STUDY_DESCRIPTION
    dataset.PatientName = "SYNTHETIC^PATIENT"
    dataset.PatientID = patient.patient_id
    if not patient.patient_id.startswith(ISSUER):
        dataset.IssuerOfPatientID = ISSUER
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F" if demographics.is_female else "M"
    dataset.PatientAge = f"{demographics.age:03d}Y"
    dataset.StudyInstanceUID = study_uid_of(patient, scan)
    dataset.StudyID = str(scan.index + 1)
