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
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.guarded.limits import SCAN_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each
from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.lazy_sequence import MappedSequence
from acfnet_core.cohort.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    InputsRecord,
    Manifest,
    PatientRecord,
    spec_of,
)
from acfnet_core.cohort.prepared.manifest_draft import ManifestDraft
from acfnet_core.cohort.prepared.plan_list import EachScan
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
from acfnet_core.cohort.spool import Spool
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    RowWithOutcome,
    read_clinical_table,
)
from acfnet_core.errors import DataError
from acfnet_core.files import make_folder

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
    spool = Spool(store_folder)
    plans, num_series = _plan(contract, sources, table, spool)
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
    prepared = _Prepared(
        refused=Counter(count_codes(plans)), draft=ManifestDraft(spool)
    )
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
    contract: DataContract, sources: CohortSources, table: ClinicalTable, spool: Spool
) -> tuple[Sequence[PatientPlan], int]:
    """Plan every patient's scans, in the order of the site's identifiers.

    Patients without an outcome come after all others.
    """
    rows = [
        *sorted(table.rows, key=lambda row: row.patient_id),
        *sorted(table.without_outcome, key=lambda row: row.patient_id),
    ]
    planned = plan_sources(contract, sources, rows, spool)
    series = planned.series
    if series and not any(series.has_patient(row.patient_id) for row in rows):
        num_imaged = sum(1 for _ in series.patients())
        raise _nothing_usable(
            f"none of the {num_imaged} patients in the images is in the table",
            "Compare the table's identifiers with PatientID: leading zeros are lost "
            "when a spreadsheet takes an identifier for a number.",
        )
    return planned.patients, len(planned.series)


def _make_jobs(
    contract: DataContract,
    plans: Sequence[PatientPlan],
    store_folder: Path,
    pseudonym_key: bytes,
) -> Sequence[ScanJob]:
    def make_job(plan: PatientPlan) -> ScanJob:
        return ScanJob(
            store_folder=store_folder,
            pseudonym=make_pseudonym(pseudonym_key, plan.row.patient_id),
            scans=plan.scans,
            imaging=contract.imaging,
        )

    return MappedSequence(make_job, plans)


def _run_jobs(
    jobs: Sequence[ScanJob], num_workers: int, pseudonym_key: bytes
) -> Iterator[JobResult]:
    """Yield the results in the order of the jobs."""
    scans = EachScan(jobs)
    share = math.ceil(len(scans) / num_workers)

    def job_of(place: tuple[int, int, PlannedScan]) -> ScanJob:
        patient, _, scan = place
        return replace(jobs[patient], scans=(scan,))

    readings = read_each(
        run_job,
        MappedSequence(job_of, scans),
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
    """What is done so far."""

    refused: Counter[str]
    draft: ManifestDraft

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
            self.draft.add_without_outcome(inputs)
            return
        self.draft.add_patient(
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
    draft, counts = prepared.draft, prepared.draft.counts
    path = store_folder / MANIFEST
    without_patients = Manifest(
        format_version=FORMAT_VERSION,
        contract_name=contract.name,
        contract_sha256=contract.sha256(),
        reading_sha256=sources.reading_sha256(),
        spec_sha256=spec_of(contract.imaging) if contract.imaging else None,
        num_without_outcome=counts.num_without_outcome,
        refused=dict(sorted(prepared.refused.items())),
        patients=(),
    )
    draft.write(path, without_patients)
    _remove_others(store_folder, draft)
    return CohortFinished(
        manifest=path,
        num_patients=counts.num_patients,
        num_events=counts.num_events,
        num_with_scans=counts.num_with_scans,
        num_scans=counts.num_scans,
        num_without_outcome=counts.num_without_outcome,
        num_scans_without_outcome=counts.num_scans_without_outcome,
        num_scans_assumed=counts.num_scans_assumed,
        repaired=dict(sorted(counts.repaired.items())),
        refused=without_patients.refused,
    )


def _remove_others(store_folder: Path, draft: ManifestDraft) -> None:
    """Remove the scans that no patient has any more."""
    for folder in (store_folder / SCANS_FOLDER).iterdir():
        for file in folder.glob("*.safetensors"):
            if not draft.has_file(file.relative_to(store_folder).as_posix()):
                file.unlink()
                if not any(folder.iterdir()):
                    folder.rmdir()


def _nothing_usable(reason: str, remedy: str) -> DataError:
    return DataError(
        "data.nothing_usable", f"Nothing can be prepared: {reason}.", remedy=remedy
    )
