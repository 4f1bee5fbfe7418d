"""Which rows of the table have studies that give no scan, and why.

A row's number stands for its patient: whoever has the table finds the patient by it,
and nobody else does.
"""

from collections import defaultdict
from collections.abc import Iterable

from acfnet_core.cohort.prepared.scan_plan import PatientPlan


def rows_of_codes(plans: Iterable[PatientPlan]) -> dict[str, tuple[int, ...]]:
    """Return for each code the rows, ascending, that have a study refused with it."""
    rows: dict[str, set[int]] = defaultdict(set)
    for plan in plans:
        for code in (code for codes in plan.refused for code in codes):
            rows[code].add(plan.row.row_number)
    return {code: tuple(sorted(numbers)) for code, numbers in sorted(rows.items())}
