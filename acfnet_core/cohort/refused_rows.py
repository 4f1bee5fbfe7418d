"""Which rows of the table have studies that give no scan, and why.

A row's number stands for its patient: whoever has the table finds the patient by it,
and nobody else does.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.repairs import mend_index
from acfnet_core.cohort.masks.segmentation import segmentations_of
from acfnet_core.cohort.prepared.scan_plan import PatientPlan, plan_scans
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import TableRow


def plan_sources(
    contract: DataContract, sources: CohortSources, rows: Sequence[TableRow]
) -> tuple[PatientPlan, ...]:
    """Decide from headers which scans of these rows are used.

    Returns:
        One plan a row, in their order; none where there are no images.

    Raises:
        DataError: The folder of images cannot be read.
    """
    folder = sources.images_folder
    if folder is None or contract.imaging is None:
        return ()
    index = mend_index(index_folder(folder), folder, sources.repairs)
    gated = gate_index(index, contract.imaging, sources.repairs)
    drawn = segmentations_of(index, sources.nifti_labels)
    return plan_scans(rows, gated, drawn, contract.imaging)


def rows_of_codes(plans: Iterable[PatientPlan]) -> dict[str, tuple[int, ...]]:
    """Return for each code the rows, ascending, that have a study refused with it."""
    rows: dict[str, set[int]] = defaultdict(set)
    for plan in plans:
        for code in (code for codes in plan.refused for code in codes):
            rows[code].add(plan.row.row_number)
    return {code: tuple(sorted(numbers)) for code, numbers in sorted(rows.items())}
