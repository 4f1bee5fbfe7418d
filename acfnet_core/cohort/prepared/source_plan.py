"""From a site's images to the scans that are used: index, repairs, gate, masks, plan.

Checking, preparing, reporting and exporting all begin here, so that they speak of the
same scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.images.dicom_index import DicomIndex, index_folder
from acfnet_core.cohort.images.gated_list import GatedList, gate_on_disk
from acfnet_core.cohort.images.repairs import mend_index
from acfnet_core.cohort.masks.segmentation import SegmentationFile, segmentations_of
from acfnet_core.cohort.prepared.plan_list import PlanList
from acfnet_core.cohort.prepared.scan_plan import PatientPlan
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.spool import Spool
from acfnet_core.cohort.table.clinical_table import (
    ClinicalTable,
    TableRow,
    examine_clinical_table,
)


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What lies in the images, and what of it is used; most of it is on the disk.

    Attributes:
        index: Of the folder, mended; None where there are no images.
        series: Every CT series with its verdict.
        segmentations: Every segmentation.
        patients: One plan a row, in the order of the rows.
    """

    index: DicomIndex | None = field(default=None, repr=False)
    series: GatedList = field(default_factory=lambda: GatedList(Spool()), repr=False)
    segmentations: Sequence[SegmentationFile] = field(default=(), repr=False)
    patients: Sequence[PatientPlan]


def examine_sources(
    contract: DataContract, sources: CohortSources
) -> tuple[ClinicalTable, SourcePlan]:
    """Read a site's table and headers once: all that can be known without a voxel.

    Returns:
        The table with its faults, and the plan of its patients, those with an outcome
        first.

    Raises:
        DataError: The table or the folder of images cannot be read at all.
        ConfigError: The mapping does not fit the contract.
    """
    table = examine_clinical_table(sources.clinical_table, contract, sources.mapping)
    everyone = (*table.rows, *table.without_outcome)
    return table, plan_sources(contract, sources, everyone)


def plan_sources(
    contract: DataContract,
    sources: CohortSources,
    rows: Sequence[TableRow],
    spool: Spool | None = None,
) -> SourcePlan:
    """Decide from headers which scans of these rows are used.

    Args:
        contract: The study's contract.
        sources: Where the data lies.
        rows: Of the table.
        spool: Where the headers are put; None makes one in the folder for notes.

    Raises:
        DataError: The folder of images cannot be read.
        MachineError: There is no room for notes on the headers.
    """
    folder, imaging = sources.images_folder, contract.imaging
    if folder is None or imaging is None:
        nothing = tuple(PatientPlan(row=row, scans=(), refused=()) for row in rows)
        return SourcePlan(patients=nothing)
    spool = spool or Spool(sources.notes_folder)
    index = mend_index(index_folder(folder, spool), folder, sources.repairs)
    series = gate_on_disk(index, imaging, sources.repairs)
    segmentations = segmentations_of(index, sources.nifti_labels)
    return SourcePlan(
        index=index,
        series=series,
        segmentations=segmentations,
        patients=PlanList(rows, series, segmentations, imaging),
    )
