from pathlib import Path

import numpy as np

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.scan_plan import PatientPlan
from acfnet_core.cohort.prepared.source_plan import plan_sources
from acfnet_core.cohort.refused_rows import rows_of_codes
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import TableRow


def make_plan(row_number: int, *refused: tuple[str, ...]) -> PatientPlan:
    row = TableRow(
        row_number=row_number,
        patient_id=f"CANARY-{row_number}",
        clinical=np.zeros(1, np.float32),
        clinical_mask=np.ones(1, np.bool_),
        resection_date=None,
    )
    return PatientPlan(row=row, scans=(), refused=refused)


def test_each_code_has_its_rows_in_ascending_order() -> None:
    plans = [make_plan(9, ("LOSSY", "NO_IPP")), make_plan(4), make_plan(2, ("LOSSY",))]
    assert rows_of_codes(plans) == {"LOSSY": (2, 9), "NO_IPP": (9,)}


def test_a_row_with_two_such_studies_is_named_once() -> None:
    assert rows_of_codes([make_plan(3, ("LOSSY",), ("LOSSY",))]) == {"LOSSY": (3,)}


def test_a_site_without_images_has_no_plan() -> None:
    sources = CohortSources(clinical_table=Path("clinical.csv"))
    assert plan_sources(shipped_contract("crlm"), sources, ()).patients == ()
