"""A look at a site's data before anything is prepared: the table and DICOM headers.

The report has counts and codes only. It is for the site's own eyes all the same: its
counts are not suppressed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from acfnet_core.cohort.check_warnings import (
    CheckWarning,
    warn_of_images,
    warn_of_linkage,
    warn_of_size,
)
from acfnet_core.cohort.contract import DataContract, ImagingExpectations
from acfnet_core.cohort.header_linkage import compare_headers
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_index import DicomIndex
from acfnet_core.cohort.images.refusals import REASONS
from acfnet_core.cohort.masks.segmentation import (
    CHOICE_RULE,
    channel_of,
    kind_of,
    patients_of,
)
from acfnet_core.cohort.prepared.scan_plan import PatientPlan
from acfnet_core.cohort.prepared.source_plan import SourcePlan, examine_sources
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import ClinicalTable
from acfnet_core.cohort.table.faults import TableFault
from acfnet_core.errors import DataError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FaultCount(_Part):
    """One kind of fault in the table.

    Attributes:
        rule: Which rule is broken; of a rule between columns, its name.
        column: One column, or those that the rule compares, with commas between.
        num_judged: Rows that have the values which decide the rule.
    """

    rule: str
    column: str
    count: int
    num_judged: int
    first_rows: tuple[int, ...]
    text: str


class TableCheck(_Part):
    """What the clinical table holds.

    Attributes:
        num_patients: Rows with an identifier, a time and an event.
        num_without_outcome: Rows with an identifier that lack time or event: they can
            be predicted, and no run trains on them or counts them.
        num_missing: Feature -> rows without a value, faulty ones among them.
        faults: They keep the data from being prepared.
        warnings: What looks wrong between columns and is used all the same.
    """

    num_rows: int
    num_patients: int
    num_events: int
    num_without_outcome: int
    num_missing: dict[str, int]
    num_unused_columns: int
    faults: tuple[FaultCount, ...]
    warnings: tuple[FaultCount, ...]


class LinkageCheck(_Part):
    """How many patients' image headers agree with the table."""

    num_compared: int
    num_agreeing: int


class ImageCheck(_Part):
    """What the folder of images holds, judged by headers.

    Patients with an outcome and without one are counted alike: the scans of both are
    prepared.

    Attributes:
        series_codes: Code -> series that have it; a series may have several.
        repaired_codes: Code -> accepted series in which it was mended.
        study_codes: Code -> studies of patients in the table that give no scan.
        num_patients_not_in_table: Patients with CT whom the table does not have.
        num_scans_assumed: Scans whose time is assumed for want of a resection date.
        segmentations_by_kind: DICOM SEG, RTSTRUCT, NIfTI -> files.
        segmentation_rule: Which segmentation is taken where several fit a series.
        num_stray_masks: NIfTI masks without a CT series in their folder.
        unknown_segments: Segments of DICOM files that belong to no channel of the
            contract.
        scans_by_kind: DICOM SEG, RTSTRUCT, NIfTI -> scans whose masks come from it.
        linkage: `sex` and `age` in the headers, compared with the table.
        warnings: Where accepted images are not as the study expects.
    """

    num_series: int
    num_series_accepted: int
    series_codes: dict[str, int]
    repaired_codes: dict[str, int]
    num_segmentations: int
    segmentations_by_kind: dict[str, int]
    segmentation_rule: str
    num_stray_masks: int
    unknown_segments: int
    study_codes: dict[str, int]
    num_patients_with_scans: int
    num_patients_not_in_table: int
    num_scans: int
    scans_by_kind: dict[str, int]
    num_scans_assumed: int
    num_files_ignored: int
    num_files_broken: int
    linkage: dict[str, LinkageCheck]
    warnings: tuple[CheckWarning, ...]


class CheckReport(_Part):
    """The whole look; `meanings` explains every code that occurs in it.

    `warnings` are those about the site as a whole; table and images have their own.
    """

    contract: str
    contract_sha256: str
    reading_sha256: str
    table: TableCheck
    images: ImageCheck | None
    warnings: tuple[CheckWarning, ...]
    meanings: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether the data can be prepared: the table is without fault."""
        return not self.table.faults


def check_cohort(contract: DataContract, sources: CohortSources) -> CheckReport:
    """Look at a site's data and report every fault of the table as a finding.

    Raises:
        DataError: The table or the folder of images cannot be read at all.
        ConfigError: The mapping does not fit the contract.
    """
    table, planned = examine_sources(contract, sources)
    return check_planned(contract, sources, table, planned)


def check_planned(
    contract: DataContract,
    sources: CohortSources,
    table: ClinicalTable,
    planned: SourcePlan,
) -> CheckReport:
    """Say what was found in a site's data, once it has been read.

    Args:
        contract: Of the study.
        sources: As they were read.
        table: With its faults.
        planned: Of the table's patients.
    """
    images = None
    if planned.index is not None and contract.imaging is not None:
        images = _check_images(planned, planned.index, contract.imaging)
    codes: set[str] = set()
    if images is not None:
        codes.update(images.series_codes, images.repaired_codes, images.study_codes)
    return CheckReport(
        contract=f"{contract.name} version {contract.version}",
        contract_sha256=contract.sha256(),
        reading_sha256=sources.reading_sha256(),
        table=TableCheck(
            num_rows=table.num_rows,
            num_patients=len(table.rows),
            num_events=sum(row.event for row in table.rows),
            num_without_outcome=len(table.without_outcome),
            num_missing=table.num_missing,
            num_unused_columns=table.num_unused_columns,
            faults=tuple(map(_count_of, table.faults)),
            warnings=tuple(map(_count_of, table.warnings)),
        ),
        images=images,
        warnings=tuple(warn_of_size(contract, len(table.rows))),
        meanings={code: REASONS[code] for code in sorted(codes)},
    )


def require_ready(report: CheckReport) -> None:
    """Raise if the data cannot be prepared as it is.

    Raises:
        DataError: The table has faults.
    """
    table = report.table
    if table.faults:
        faults = "\n".join(f"  {fault.text}" for fault in table.faults)
        raise DataError(
            "data.table_invalid",
            f"The clinical table has faults:\n{faults}",
            remedy="Correct the table, or map its columns in site.toml, and repeat.",
        )


def _count_of(fault: TableFault) -> FaultCount:
    return FaultCount(
        rule=fault.rule,
        column=fault.column,
        count=fault.count,
        num_judged=fault.num_judged,
        first_rows=fault.first_rows,
        text=fault.describe(),
    )


def _check_images(
    planned: SourcePlan, index: DicomIndex, imaging: ImagingExpectations
) -> ImageCheck:
    series, drawn, plans = _CountedSeries(), planned.segmentations, planned.patients
    for one in planned.series:
        series.add(one)
    scans = _CountedScans()
    for plan in plans:
        scans.add(plan)
    agreements = compare_headers(
        (plan.row for plan in plans),
        ((header,) for header in planned.series.first_met),
        index.spool,
    )
    return ImageCheck(
        num_series=len(planned.series),
        num_series_accepted=series.num_accepted,
        series_codes=_sorted(series.codes),
        repaired_codes=_sorted(series.repaired),
        num_segmentations=len(drawn),
        segmentations_by_kind=_sorted(Counter(map(kind_of, drawn))),
        segmentation_rule=CHOICE_RULE,
        num_stray_masks=sum(not patients_of(one) for one in drawn),
        unknown_segments=sum(
            channel_of(label, imaging) is None
            for file in index.segmentations
            for label in file.segment_labels
        ),
        study_codes=_sorted(scans.refused),
        num_patients_with_scans=scans.num_patients,
        num_patients_not_in_table=sum(
            patient_id not in scans.listed for patient_id in planned.series.patients()
        ),
        num_scans=scans.kinds.total(),
        scans_by_kind=_sorted(scans.kinds),
        num_scans_assumed=scans.num_assumed,
        num_files_ignored=index.num_ignored,
        num_files_broken=index.num_broken,
        linkage={
            name: LinkageCheck(
                num_compared=one.num_compared, num_agreeing=one.num_agreeing
            )
            for name, one in agreements.items()
        },
        warnings=(
            *warn_of_linkage(agreements),
            *warn_of_images(imaging, planned.series, plans),
        ),
    )


@dataclass(kw_only=True)
class _CountedSeries:
    num_accepted: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)

    def add(self, series: GatedSeries) -> None:
        self.num_accepted += series.is_accepted
        self.codes.update(series.codes)
        self.repaired.update(series.repaired)


@dataclass(kw_only=True)
class _CountedScans:
    num_patients: int = 0
    num_assumed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    listed: set[str] = field(default_factory=set)

    def add(self, plan: PatientPlan) -> None:
        self.listed.add(plan.row.patient_id)
        self.num_patients += bool(plan.scans)
        self.num_assumed += sum(scan.time_assumed for scan in plan.scans)
        self.kinds.update(kind_of(scan.segmentation) for scan in plan.scans)
        for codes in plan.refused:
            self.refused.update(codes)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
