"""The prepared store of one site: its manifest, its files, and how they are opened.

A store is a private folder: `manifest.json`, written last, and one safetensors file for
each scan. Patients appear under keyed pseudonyms, in the order of their identifiers at
the site, which is the same under every key. Each file's hash is checked when this
process first opens it.

Patients without an outcome stand apart, as `PreparedInputs`: what goes through
`patients` to train, count or judge cannot meet one, and there is no time or event to
misread.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from safetensors import SafetensorError
from safetensors.numpy import load

from acfnet_core.cohort.contract import CHANNELS, DataContract
from acfnet_core.cohort.images.volume import to_channels
from acfnet_core.cohort.prepared.manifest import (
    MANIFEST,
    InputsRecord,
    PatientRecord,
    ScanRecord,
    damaged,
    read_manifest,
)
from acfnet_core.errors import DataError
from acfnet_core.withholding import withhold_part

GRID_WITHOUT_IMAGING = (24, 48, 48)
"""The shape of the scan tensor's last axes where a contract has no images at all."""


@dataclass(frozen=True, kw_only=True)
class PreparedInputs:
    """What a model may read of one patient: inputs, and where the scans are.

    Attributes:
        pseudonym: Keyed by the site; it cannot be linked between sites.
        clinical: Standardised by the contract; 0 where missing.
        scans: Earliest first.
        refused: Code of each scan that was refused when it was read.
    """

    pseudonym: str
    clinical: Float32[np.ndarray, " feature"]
    clinical_mask: Bool[np.ndarray, " feature"]
    scans: tuple[ScanRecord, ...]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreparedPatient(PreparedInputs):
    """One patient with an outcome.

    Attributes:
        event: 1 if the event was seen at `time_months`, 0 if follow-up ended then.
        fong_score: The published score that the model is compared with, if known.
    """

    time_months: float
    event: int
    fong_score: float | None


@dataclass(frozen=True, kw_only=True)
class PreparedCohort:
    """The patients of one store, under one contract.

    Attributes:
        patients: With an outcome: all that is trained on, counted and judged by.
        without_outcome: To be predicted, and for nothing else.
        refused: Reason code -> number of studies or series that were not used.
        reading_sha256: Of how table and images were read; None if that is not known.
    """

    contract: DataContract
    folder: Path
    patients: tuple[PreparedPatient, ...]
    without_outcome: tuple[PreparedInputs, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    reading_sha256: str | None = None
    _verified: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels along (depth, height, width) of every scan."""
        imaging = self.contract.imaging
        return imaging.grid_shape if imaging else GRID_WITHOUT_IMAGING

    def load_scans(
        self, patient: PreparedInputs
    ) -> tuple[
        Float32[np.ndarray, "scan channel depth height width"],
        Float32[np.ndarray, " scan"],
        Bool[np.ndarray, "scan channel"],
    ]:
        """Read a patient's scans, windowed and ready for the model.

        Returns:
            The scans, their times in months from the resection, and which channels each
            scan has. The first axis is empty for a patient without images.

        Raises:
            DataError: A file is missing or is not the one that was prepared.
        """
        num_scans, num_channels = len(patient.scans), len(CHANNELS)
        scans = np.zeros((num_scans, num_channels, *self.grid_shape), np.float32)
        for index, scan in enumerate(patient.scans):
            self._load_scan(scan, into=scans[index])
        times = np.array([scan.time_months for scan in patient.scans], np.float32)
        masks = np.array([scan.channel_mask for scan in patient.scans], np.bool_)
        return scans, times, masks.reshape(num_scans, num_channels)

    def _load_scan(
        self,
        scan: ScanRecord,
        into: Float32[np.ndarray, "channel depth height width"],
    ) -> None:
        imaging = self.contract.imaging
        if imaging is None:
            raise ValueError("a contract without imaging has no scans to load")
        content = self._read_verified(scan)
        try:
            tensors = load(content)
            ct_hu, labels = tensors["ct_hu"], tensors["labels"]
        except (SafetensorError, KeyError) as error:
            raise damaged(self.folder / scan.file) from error
        if ct_hu.shape != imaging.grid_shape or labels.shape != imaging.grid_shape:
            raise damaged(self.folder / scan.file)
        into[...] = to_channels(ct_hu, labels, imaging)

    def _read_verified(self, scan: ScanRecord) -> bytes:
        try:
            content = (self.folder / scan.file).read_bytes()
        except OSError as error:
            raise damaged(self.folder / scan.file) from error
        if scan.file not in self._verified:
            if hashlib.sha256(content).hexdigest() != scan.sha256:
                raise damaged(self.folder / scan.file)
            self._verified.add(scan.file)
        return content


def open_store(
    folder: Path, *, contract: DataContract, reading_sha256: str | None = None
) -> PreparedCohort:
    """Open what `prepare_cohort` wrote.

    Args:
        folder: The store.
        contract: Under which it must have been prepared.
        reading_sha256: Of how table and images must have been read, as the sources
            tell it; None takes any.

    Raises:
        DataError: `data.not_prepared`, `data.contract_mismatch`,
            `data.reading_changed` or `data.store_damaged`.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(
            "data.not_prepared",
            f"{folder}: holds no prepared data ({MANIFEST} is missing).",
            remedy="Run `acf-client data prepare` first.",
        )
    if manifest.contract_sha256 != contract.sha256():
        raise DataError(
            "data.contract_mismatch",
            f"{folder}: was prepared under contract {manifest.contract_name} "
            f"{manifest.contract_sha256[:12]}, but {contract.name} "
            f"{contract.sha256()[:12]} is asked for.",
            remedy="Run `acf-client data prepare` under the contract of this run.",
        )
    if reading_sha256 not in {None, manifest.reading_sha256}:
        raise DataError(
            "data.reading_changed",
            f"{folder}: was prepared when site.toml read table and images in another "
            "way than it does now ([data.columns], [data.table], [data.nifti_labels] "
            "or [data.repairs] was changed).",
            remedy="Run `acf-client data prepare` again.",
        )
    num_features = contract.num_clinical_features
    records = (*manifest.patients, *manifest.without_outcome)
    if any(len(record.clinical) != num_features for record in records):
        raise damaged(folder / MANIFEST)
    return PreparedCohort(
        contract=contract,
        folder=folder,
        patients=tuple(_to_patient(record) for record in manifest.patients),
        without_outcome=tuple(_to_inputs(one) for one in manifest.without_outcome),
        refused=dict(manifest.refused),
        reading_sha256=manifest.reading_sha256,
    )


def _to_inputs(record: InputsRecord) -> PreparedInputs:
    return PreparedInputs(
        pseudonym=record.pseudonym,
        clinical=np.array(record.clinical, np.float32),
        clinical_mask=np.array(record.clinical_mask, np.bool_),
        scans=record.scans,
        refused=record.refused,
    )


def _to_patient(record: PatientRecord) -> PreparedPatient:
    return PreparedPatient(
        **vars(_to_inputs(record)),
        time_months=record.time_months,
        event=record.event,
        fong_score=record.fong_score,
    )


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """Counts of a cohort that may leave the site; None where one is withheld.

    A number of events or of patients with scans is also withheld when few patients are
    left without one; the number of scans goes with the number of patients who have
    them, since few patients can have many scans, and with those who have two or more,
    whom the difference of both would tell.

    Attributes:
        num_patients: With an outcome.
        num_events: Patients whose event was seen.
        num_with_scans: Patients with one scan or more.
        num_scans: Scans of all patients.
    """

    num_patients: int | None
    num_events: int | None
    num_with_scans: int | None
    num_scans: int | None


def summarise(cohort: PreparedCohort) -> CohortSummary:
    """Count a cohort as the contract allows it to be told outside the site."""
    minimum = cohort.contract.minimum_cell
    patients = cohort.patients
    total = len(patients)
    if total < minimum:
        return CohortSummary(
            num_patients=None, num_events=None, num_with_scans=None, num_scans=None
        )
    num_events = sum(patient.event for patient in patients)
    num_with_scans = withhold_part(
        sum(bool(patient.scans) for patient in patients), of=total, minimum=minimum
    )
    counts = [len(patient.scans) for patient in patients if patient.scans]
    groups = [
        withhold_part(
            sum(count >= several for count in counts), of=len(counts), minimum=minimum
        )
        for several in range(2, max(counts, default=1) + 1)
    ]
    is_told = num_with_scans is not None and None not in groups
    return CohortSummary(
        num_patients=total,
        num_events=withhold_part(num_events, of=total, minimum=minimum),
        num_with_scans=num_with_scans,
        num_scans=sum(counts) if is_told else None,
    )
