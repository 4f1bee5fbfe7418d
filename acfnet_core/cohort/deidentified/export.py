"""A de-identified copy of a site's data: what training would read, and nothing else.

Copied are the scans that `prepare_cohort` would use, each with the one segmentation
that it would get, and the columns of the table that the contract uses. The same
contract prepares the same tensors from the copy.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from acfnet_core import __version__
from acfnet_core.cohort.contract import DataContract, ImagingExpectations
from acfnet_core.cohort.deidentified.clinical_copy import ClinicalCopy, copy_table
from acfnet_core.cohort.deidentified.export_folder import (
    ExportFolder,
    filled_beside,
    refuse_place,
)
from acfnet_core.cohort.deidentified.export_manifest import (
    CAUTION,
    FORMAT_VERSION,
    IMAGES_FOLDER,
    MANIFEST,
    READ_ME,
    TABLE,
    ExportManifest,
    read_me,
)
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.deidentified.nifti_copy import safe_labels
from acfnet_core.cohort.deidentified.rebuild import METHODS
from acfnet_core.cohort.deidentified.scan_copy import (
    CopyJob,
    CopyResult,
    run_copy_job,
)
from acfnet_core.cohort.guarded.limits import SCAN_LIMITS
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each
from acfnet_core.cohort.lazy_sequence import MappedSequence
from acfnet_core.cohort.masks.segmentation import kind_of
from acfnet_core.cohort.prepared.plan_list import EachScan
from acfnet_core.cohort.prepared.scan_plan import (
    PatientPlan,
    PlannedScan,
    count_codes,
)
from acfnet_core.cohort.prepared.source_plan import plan_sources
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import TableRow, read_clinical_table
from acfnet_core.errors import ConfigError

_NUM_READERS = 2


@dataclass(frozen=True, kw_only=True)
class ExportPlanned:
    """What is to be copied."""

    num_patients: int
    num_scans: int


@dataclass(frozen=True, kw_only=True)
class PatientExported:
    """One patient is done.

    Attributes:
        index: How many are done.
        left_out: The code of each scan that could not be copied.
    """

    index: int
    total: int
    row_number: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExportReady:
    """All is written, and not in its place yet: the time to note that it exists.

    Attributes:
        manifest_sha256: Of `export.json`, which has the hash of every other file.
        left_out: Code -> studies that were not copied.
        num_ages_capped: Patients whose age is written as 90.
    """

    manifest: ExportManifest = field(repr=False)
    manifest_sha256: str
    left_out: dict[str, int]
    num_ages_capped: int


@dataclass(frozen=True, kw_only=True)
class ExportFinished:
    """The export is in its place."""

    folder: Path
    ready: ExportReady


ExportEvent = ExportPlanned | PatientExported | ExportReady | ExportFinished


def export_cohort(
    contract: DataContract,
    sources: CohortSources,
    folder: Path,
    *,
    site_key: bytes,
    only_patients: frozenset[str] | None = None,
    apart_from: Sequence[Path] = (),
) -> Iterator[ExportEvent]:
    """Write a de-identified copy; nothing happens unless the events are taken.

    The same data, key and contract give the same bytes.

    Args:
        contract: The study's contract.
        sources: Where the data lies.
        folder: A new or empty folder; it is there in whole or not at all.
        site_key: Secret of the site, 16 bytes or more.
        only_patients: Identifiers, as in the table; None copies all.
        apart_from: Folders in which the export must not lie, beside the images.

    Yields:
        Progress, without any identifier or value of a patient.

    Raises:
        ConfigError: The place is not allowed, or a patient is not in the table.
        DataError: The table or the folder of images is not as agreed.
        MachineError: The folder cannot be written.
        ValueError: The key is too short.
    """
    names = KeyedNames(site_key)
    images = sources.images_folder
    refuse_place(folder, [*apart_from, *([images] if images else [])])
    rows = _read_rows(contract, sources, only_patients)
    plans = plan_sources(contract, sources, rows).patients
    # By pseudonym: the order says nothing of the table's.
    pseudonyms = [names.patient(plan.row.patient_id).pseudonym for plan in plans]
    order = sorted(range(len(plans)), key=pseudonyms.__getitem__)
    named = MappedSequence(plans.__getitem__, order)
    yield ExportPlanned(
        num_patients=len(plans), num_scans=sum(len(plan.scans) for plan in plans)
    )
    written = _Written(left_out=Counter(count_codes(plans)))
    with filled_beside(folder) as out:
        table = copy_table(
            contract, sources, names, frozenset(row.patient_id for row in rows)
        )
        out.write(TABLE, table.content)
        copied = _copy_scans(out, named, names, contract.imaging)
        for index, plan in enumerate(named, start=1):
            yield PatientExported(
                index=index,
                total=len(named),
                row_number=plan.row.row_number,
                left_out=written.add(next(copied)),
            )
        ready = _describe(out, contract, sources, table, written)
        yield ready
    yield ExportFinished(folder=folder, ready=ready)


@dataclass(kw_only=True)
class _Written:
    """What is done so far."""

    left_out: Counter[str]
    num_with_scans: int = 0
    num_scans: int = 0
    segmentations: Counter[str] = field(default_factory=Counter)

    def add(self, scans: list[tuple[PlannedScan, CopyResult]]) -> tuple[str, ...]:
        """Count a patient's scans; return the code of each that was not copied."""
        refused = [result.refused for _, result in scans if result.refused]
        self.left_out.update(refused)
        self.num_with_scans += len(scans) > len(refused)
        self.num_scans += len(scans) - len(refused)
        self.segmentations.update(
            kind_of(scan.segmentation) for scan, result in scans if not result.refused
        )
        return tuple(refused)


def _read_rows(
    contract: DataContract,
    sources: CohortSources,
    only_patients: frozenset[str] | None,
) -> list[TableRow]:
    table = read_clinical_table(sources.clinical_table, contract, sources.mapping)
    rows = [*table.rows, *table.without_outcome]
    if only_patients is None:
        return rows
    unknown = only_patients - {row.patient_id for row in rows}
    if unknown or not only_patients:
        raise ConfigError(
            "config.invalid",
            f"patients to export: {len(unknown)} of {len(only_patients)} identifiers "
            "are not in the clinical table.",
            remedy="Write the identifiers as the table has them, one on each line.",
        )
    return [row for row in rows if row.patient_id in only_patients]


def _copy_scans(
    out: ExportFolder,
    named: Sequence[PatientPlan],
    names: KeyedNames,
    imaging: ImagingExpectations | None,
) -> Iterator[list[tuple[PlannedScan, CopyResult]]]:
    """Yield each patient's scans, as they were copied."""
    if imaging is None:
        yield from ([] for _ in named)
        return
    expected = imaging

    def job_of(place: tuple[int, int, PlannedScan]) -> CopyJob:
        index, number, scan = place
        patient = names.patient(named[index].row.patient_id)
        return CopyJob(
            root=out.root,
            folder=f"{IMAGES_FOLDER}/{patient.pseudonym}/scan-{number + 1}",
            scan=scan,
            patient=patient,
            imaging=expected,
        )

    jobs = MappedSequence(job_of, EachScan(named))
    readings = read_each(
        run_copy_job,
        jobs,
        limits=SCAN_LIMITS,
        batch_size=SCAN_LIMITS.num_items,
        num_readers=_NUM_READERS,
    )
    done = zip(jobs, readings, strict=True)
    for plan in named:
        of_patient = islice(done, len(plan.scans))
        yield [(job.scan, _take(out, job, reading)) for job, reading in of_patient]


def _take(
    out: ExportFolder, job: CopyJob, reading: CopyResult | ReaderFailure
) -> CopyResult:
    """Take a scan's files into the export, or out of it where reading crashed."""
    if isinstance(reading, ReaderFailure):
        out.drop(job.folder)
        return CopyResult(refused=reading.code)
    out.files.extend(reading.files)
    return reading


def _describe(
    out: ExportFolder,
    contract: DataContract,
    sources: CohortSources,
    table: ClinicalCopy,
    written: _Written,
) -> ExportReady:
    """Write the manifest and the words to the reader."""
    imaging = contract.imaging
    has_nifti = "NIfTI" in written.segmentations
    labels = safe_labels(sources.nifti_labels, imaging) if imaging and has_nifti else {}
    manifest = ExportManifest(
        format_version=FORMAT_VERSION,
        acfnet_version=__version__,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_sha256=contract.sha256(),
        methods=tuple(f"{code.value} {code.meaning}" for code in METHODS),
        caution=CAUTION,
        num_patients=table.num_patients,
        num_with_scans=written.num_with_scans,
        num_scans=written.num_scans,
        segmentations=dict(sorted(written.segmentations.items())),
        columns=table.columns,
        nifti_labels={str(value): names for value, names in labels.items()},
        files=tuple(sorted(out.files, key=lambda one: one.file)),
    )
    out.write(READ_ME, read_me(manifest).encode(), is_listed=False)
    content = manifest.model_dump_json(indent=1).encode()
    out.write(MANIFEST, content, is_listed=False)
    return ExportReady(
        manifest=manifest,
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        left_out=dict(sorted(written.left_out.items())),
        num_ages_capped=table.num_ages_capped,
    )
