"""From a site's files to its prepared store, patient by patient.

A patient whose images are refused stays in, with images missing: leaving the sick out
because their scans are harder to read would bend every result. A patient without an
outcome is prepared alike and kept apart, to be predicted. Repeating a preparation is
safe, and picks up what an interrupted one had finished.
"""

import base64
import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.guarded.limits import SCAN_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each
from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    InputsRecord,
    Manifest,
    PatientRecord,
    ScanRecord,
    spec_of,
)
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PatientPrepared,
    PreparationEvent,
    SourcesRead,
    StudyRefused,
)
from acfnet_core.cohort.prepared.scan_job import (
    SCANS_FOLDER,
    JobResult,
    ScanJob,
    run_job,
)
from acfnet_core.cohort.prepared.scan_plan import (
    PatientPlan,
    PlannedScan,
    count_codes,
)
from acfnet_core.cohort.prepared.source_plan import plan_sources
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    RowWithOutcome,
    read_clinical_table,
)
from acfnet_core.errors import DataError
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically

_MIN_KEY_BYTES = 16
_KEY_LENGTH = 32
_SCANS_A_READER = 16
"""A new reader costs as much as a fifth of a scan."""


def prepare_cohort(
    contract: DataContract,
    sources: CohortSources,
    store_folder: Path,
    *,
    pseudonym_key: bytes,
    num_workers: int = 2,
) -> Iterator[PreparationEvent]:
    """Prepare a site's data; nothing happens unless the events are taken.

    Args:
        contract: The study's contract.
        sources: Where the data lies.
        store_folder: A folder of this store's own; made if it does not exist.
        pseudonym_key: Secret of the site, 16 bytes or more; the same key gives the
            same pseudonyms.
        num_workers: Most processes that read images at a time, under limits; a crash
            or an overrun costs the scan that was read.

    Yields:
        Progress, without any identifier or value of a patient.

    Raises:
        DataError: The table or the folder of images is not as agreed.
        MachineError: The store cannot be written, or no process can be started.
        ValueError: The key is too short or `num_workers` is below 1.
    """
    if len(pseudonym_key) < _MIN_KEY_BYTES:
        raise ValueError(f"pseudonym_key must have {_MIN_KEY_BYTES} bytes or more")
    if num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    table = read_clinical_table(sources.clinical_table, contract, sources.mapping)
    make_folder(store_folder, private=True)
    make_folder(store_folder / SCANS_FOLDER, private=True)
    plans, num_series = _plan(contract, sources, table)
    yield SourcesRead(
        num_patients=len(table.rows),
        num_without_outcome=len(table.without_outcome),
        num_series=num_series,
        num_scans_planned=sum(len(plan.scans) for plan in plans),
    )
    for plan in plans:
        for codes in plan.refused:
            yield StudyRefused(row_number=plan.row.row_number, codes=codes)
    jobs = _make_jobs(contract, plans, store_folder, pseudonym_key)
    prepared = _Prepared(refused=Counter(count_codes(plans)))
    done = _run_jobs(jobs, num_workers, pseudonym_key)
    results = zip(plans, jobs, done, strict=True)
    for index, (plan, job, result) in enumerate(results, start=1):
        for code in result.refused:
            yield StudyRefused(row_number=plan.row.row_number, codes=(code,))
        prepared.add(plan, job.pseudonym, result)
        yield PatientPrepared(
            index=index,
            total=len(plans),
            row_number=plan.row.row_number,
            num_scans=len(result.scans),
            num_reused=result.num_reused,
        )
    yield _finish(contract, sources, store_folder, prepared)


def make_pseudonym(pseudonym_key: bytes, patient_id: str) -> str:
    """Return a patient's pseudonym: base32 of a keyed hash, cut to 160 bits.

    Without the key it cannot be recomputed, not even by trying every identifier.
    """
    return _hide(pseudonym_key, f"patient:{patient_id}")


def hide_sources(pseudonym_key: bytes, scan: PlannedScan) -> tuple[str, ...]:
    """Return keyed hashes of the UIDs of a scan's series and of its segmentation."""
    hidden = [_hide(pseudonym_key, f"series:{scan.series.headers[0].series_uid}")]
    if isinstance(scan.segmentation, InstanceHeader):
        uid = scan.segmentation.sop_instance_uid
        hidden.append(_hide(pseudonym_key, f"segmentation:{uid}"))
    return tuple(hidden)


def _hide(pseudonym_key: bytes, text: str) -> str:
    digest = hmac.digest(pseudonym_key, text.encode(), hashlib.sha256)
    return base64.b32encode(digest).decode("ascii").lower()[:_KEY_LENGTH]


def _plan(
    contract: DataContract, sources: CohortSources, table: ClinicalTable
) -> tuple[tuple[PatientPlan, ...], int]:
    """Plan every patient's scans, in the order of the site's identifiers.

    Patients without an outcome come after all others.
    """
    rows = [
        *sorted(table.rows, key=lambda row: row.patient_id),
        *sorted(table.without_outcome, key=lambda row: row.patient_id),
    ]
    planned = plan_sources(contract, sources, rows)
    imaged = planned.imaged_patients
    if imaged and imaged.isdisjoint(row.patient_id for row in rows):
        raise _nothing_usable(
            f"none of the {len(imaged)} patients in the images is in the table",
            "Compare the table's identifiers with PatientID: leading zeros are lost "
            "when a spreadsheet takes an identifier for a number.",
        )
    return planned.patients, len(planned.series)


def _make_jobs(
    contract: DataContract,
    plans: Sequence[PatientPlan],
    store_folder: Path,
    pseudonym_key: bytes,
) -> list[ScanJob]:
    return [
        ScanJob(
            store_folder=store_folder,
            pseudonym=make_pseudonym(pseudonym_key, plan.row.patient_id),
            scans=plan.scans,
            imaging=contract.imaging,
        )
        for plan in plans
    ]


def _run_jobs(
    jobs: Sequence[ScanJob], num_workers: int, pseudonym_key: bytes
) -> Iterator[JobResult]:
    """Yield the results in the order of the jobs."""
    one_by_one = [replace(job, scans=(scan,)) for job in jobs for scan in job.scans]
    share = math.ceil(len(one_by_one) / num_workers)
    readings = read_each(
        run_job,
        one_by_one,
        limits=SCAN_LIMITS,
        batch_size=max(1, min(share, _SCANS_A_READER)),
        num_readers=num_workers,
    )
    for job in jobs:
        of_patient = zip(job.scans, islice(readings, len(job.scans)), strict=True)
        yield _join(
            [
                _with_sources(reading, hide_sources(pseudonym_key, scan))
                for scan, reading in of_patient
            ]
        )


def _with_sources(
    reading: JobResult | ReaderFailure, sources: tuple[str, ...]
) -> JobResult:
    """Return the result of a single scan, which says what it was made from."""
    if isinstance(reading, ReaderFailure):
        return JobResult(refused=(reading.code,))
    made = tuple(one.model_copy(update={"sources": sources}) for one in reading.scans)
    return replace(reading, scans=made)


def _join(done: Sequence[JobResult]) -> JobResult:
    """Return one patient's result from those of the single scans."""
    return JobResult(
        scans=tuple(scan for one in done for scan in one.scans),
        refused=tuple(code for one in done for code in one.refused),
        num_reused=sum(one.num_reused for one in done),
    )


@dataclass(kw_only=True)
class _Prepared:
    """What is done so far: both parts of the manifest, in the order of the plans."""

    refused: Counter[str]
    patients: list[PatientRecord] = field(default_factory=list)
    without_outcome: list[InputsRecord] = field(default_factory=list)

    def add(self, plan: PatientPlan, pseudonym: str, result: JobResult) -> None:
        row = plan.row
        self.refused.update(result.refused)
        inputs = InputsRecord(
            pseudonym=pseudonym,
            clinical=tuple(row.clinical.tolist()),
            clinical_mask=tuple(row.clinical_mask.tolist()),
            scans=result.scans,
            refused=tuple(sorted(result.refused)),
        )
        if not isinstance(row, RowWithOutcome):
            self.without_outcome.append(inputs)
            return
        self.patients.append(
            PatientRecord(
                **dict(inputs),
                time_months=row.time_months,
                event=row.event,
                fong_score=row.fong_score,
            )
        )


def _finish(
    contract: DataContract,
    sources: CohortSources,
    store_folder: Path,
    prepared: _Prepared,
) -> CohortFinished:
    """Write the manifest, then remove the scans that no patient has any more."""
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        contract_name=contract.name,
        contract_sha256=contract.sha256(),
        reading_sha256=sources.reading_sha256(),
        spec_sha256=spec_of(contract.imaging) if contract.imaging else None,
        num_without_outcome=len(prepared.without_outcome),
        refused=dict(sorted(prepared.refused.items())),
        patients=tuple(prepared.patients),
        without_outcome=tuple(prepared.without_outcome),
    )
    path = store_folder / MANIFEST
    content = manifest.model_dump_json(indent=1).encode()
    write_atomically(path, content, mode=PRIVATE_MODE)
    patients = manifest.patients
    scans = _scans_of(patients)
    others = _scans_of(manifest.without_outcome)
    kept = {store_folder / scan.file for scan in (*scans, *others)}
    for file in (store_folder / SCANS_FOLDER).glob("*/*.safetensors"):
        if file not in kept:
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
    return CohortFinished(
        manifest=path,
        num_patients=len(patients),
        num_events=sum(patient.event for patient in patients),
        num_with_scans=sum(bool(patient.scans) for patient in patients),
        num_scans=len(scans),
        num_without_outcome=len(manifest.without_outcome),
        num_scans_without_outcome=len(others),
        num_scans_assumed=sum(scan.time_assumed for scan in (*scans, *others)),
        repaired=_count_repairs((*scans, *others)),
        refused=manifest.refused,
    )


def _count_repairs(scans: Sequence[ScanRecord]) -> dict[str, int]:
    counts = Counter(code for scan in scans for code in scan.repairs)
    return dict(sorted(counts.items()))


def _scans_of(records: Sequence[InputsRecord]) -> list[ScanRecord]:
    return [scan for record in records for scan in record.scans]


def _nothing_usable(reason: str, remedy: str) -> DataError:
    return DataError(
        "data.nothing_usable", f"Nothing can be prepared: {reason}.", remedy=remedy
    )
