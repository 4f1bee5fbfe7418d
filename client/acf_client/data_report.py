"""A site's look at the whole of its data: one HTML page, for its own eyes.

What it says is read here, from the table, the headers of the images and the prepared
store; `data_report_html.py` makes the page. Patients are rows of the table: there is no
identifier and no pseudonym, but there are their images.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acf_client.data import data_sources, read_contract
from acf_client.data_report_scans import ShownScan, show_scans
from acf_client.site import Site
from acfnet_core.cohort.check import CheckReport, check_planned
from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.prepared.manifest import read_manifest
from acfnet_core.cohort.prepared.preparation import make_pseudonym
from acfnet_core.cohort.prepared.source_plan import examine_sources
from acfnet_core.cohort.prepared.store import (
    PreparedCohort,
    PreparedInputs,
    open_store,
)
from acfnet_core.cohort.refused_rows import rows_of_codes
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import TableRow
from acfnet_core.cohort.table.feature_values import feature_values


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """All that the page says.

    Attributes:
        values: Feature -> its values, one a row that has an identifier; see
            `feature_values`.
        time_months: Of each patient with an outcome.
        event: Of the same patients.
        num_patients_by_scans: Number of scans -> patients with so many; None where
            nothing has been prepared.
        scans: By rows of the table.
        refused_rows: Code -> rows of the table that have a study refused with it.
        refused_on_reading: Code -> row of each scan that passed by its headers and was
            refused once its voxels were read.
        num_missing_in_table: Prepared patients whom the table has no more.
    """

    contract: DataContract
    check: CheckReport
    values: dict[str, NDArray[np.float64]]
    time_months: NDArray[np.float64]
    event: NDArray[np.bool_]
    num_patients_by_scans: dict[int, int] | None
    scans: tuple[ShownScan, ...]
    refused_rows: dict[str, tuple[int, ...]]
    refused_on_reading: dict[str, tuple[int, ...]]
    num_missing_in_table: int

    @property
    def is_prepared(self) -> bool:
        """Whether there is a prepared store."""
        return self.num_patients_by_scans is not None

    @property
    def num_odd(self) -> int:
        """Scans that are marked for a second look."""
        return sum(bool(scan.oddities) for scan in self.scans)

    def as_json(self) -> dict[str, Any]:
        """Return the counts, for a program."""
        table, by_scans = self.check.table, self.num_patients_by_scans
        return {
            "num_rows": table.num_rows,
            "num_patients": table.num_patients,
            "num_events": table.num_events,
            "num_without_outcome": table.num_without_outcome,
            "num_faults": sum(fault.count for fault in table.faults),
            "is_prepared": self.is_prepared,
            "num_patients_by_scans": {str(n): k for n, k in (by_scans or {}).items()},
            "num_scans": len(self.scans),
            "num_scans_marked": self.num_odd,
            "refused_rows": {code: list(r) for code, r in self.refused_rows.items()},
            "refused_on_reading": {
                c: len(r) for c, r in self.refused_on_reading.items()
            },
        }


def gather_report(site: Site) -> DataReport:
    """Read all that the page is made of.

    Raises:
        AcfnetError: The site is not enrolled, the table or the images cannot be read,
            or the store is damaged or was prepared under another contract or read
            otherwise.
    """
    contract, sources = read_contract(site), data_sources(site)
    table, planned = examine_sources(contract, sources)
    check = check_planned(contract, sources, table, planned)
    everyone: tuple[TableRow, ...] = (*table.rows, *table.without_outcome)
    plans = planned.patients
    store = _open_prepared(site, contract, sources)
    key = site.load_pseudonym_key()
    rows = {make_pseudonym(key, row.patient_id): row.row_number for row in everyone}
    prepared = (*store.patients, *store.without_outcome) if store else ()
    known = [one for one in prepared if one.pseudonym in rows]
    return DataReport(
        contract=contract,
        check=check,
        values=feature_values(everyone, contract),
        time_months=np.array([row.time_months for row in table.rows], np.float64),
        event=np.array([row.event for row in table.rows], np.bool_),
        num_patients_by_scans=(
            dict(sorted(Counter(len(one.scans) for one in prepared).items()))
            if store
            else None
        ),
        scans=tuple(show_scans(store, rows)) if store else (),
        refused_rows=rows_of_codes(plans),
        refused_on_reading=_refused_on_reading(known, rows),
        num_missing_in_table=len(prepared) - len(known),
    )


def _open_prepared(
    site: Site, contract: DataContract, sources: CohortSources
) -> PreparedCohort | None:
    """Open the site's store; None if nothing has been prepared yet."""
    if read_manifest(site.prepared_folder) is None:
        return None
    return open_store(
        site.prepared_folder,
        contract=contract,
        reading_sha256=sources.reading_sha256(),
    )


def _refused_on_reading(
    patients: Sequence[PreparedInputs], rows: dict[str, int]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = defaultdict(list)
    for patient in patients:
        for code in patient.refused:
            found[code].append(rows[patient.pseudonym])
    return {code: tuple(sorted(numbers)) for code, numbers in sorted(found.items())}
