"""The prepared scans of a site, one after the other: a tile and figures of each.

One scan is in memory at a time; what is kept of it is its tile and a few numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.prepared.stored_scan import (
    ScanMeasures,
    StoredScan,
    find_oddities,
    measure_scan,
    read_stored_scan,
)
from acfnet_core.pictures.contact_sheet import TileScan, draw_tile


@dataclass(frozen=True, kw_only=True)
class ShownScan:
    """One prepared scan as the page shows it.

    Attributes:
        row_number: Of its patient in the table; None if the table has the patient no
            more.
        number: Of the patient's scans, from 1, earliest first.
        repairs: Codes of what was mended in its series.
        tile: An SVG element.
        oddities: What a reader should look at, in words.
    """

    row_number: int | None
    number: int
    time_months: float
    time_assumed: bool
    slice_spacing_mm: float
    pixel_spacing_mm: float
    liver_share_inside: float
    repairs: tuple[str, ...]
    measures: ScanMeasures
    tile: str
    oddities: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where the scan belongs, in words."""
        if self.row_number is None:
            return "not in the table"
        return f"row {self.row_number}"


def show_scans(cohort: PreparedCohort, rows: Mapping[str, int]) -> Iterator[ShownScan]:
    """Draw and measure every scan of a store, by rows of the table.

    Args:
        cohort: The store.
        rows: Pseudonym -> row of the table.

    Raises:
        DataError: A file is missing or is not the one that was prepared.
    """
    imaging = cohort.contract.imaging
    if imaging is None:
        return
    everyone = [
        (rows.get(patient.pseudonym), patient.scans)
        for patient in (*cohort.patients, *cohort.without_outcome)
    ]
    # Those whom the table does not have come last.
    everyone.sort(key=lambda one: (one[0] is None, one[0] or 0))
    for place, (row_number, records) in enumerate(everyone):
        for number, record in enumerate(records, start=1):
            scan = read_stored_scan(cohort.folder, record, imaging)
            name = f"scan-{place}-{number}"
            yield _show(scan, record, imaging, row_number, number, name)


def _show(
    scan: StoredScan,
    record: ScanRecord,
    imaging: ImagingExpectations,
    row_number: int | None,
    number: int,
    name: str,
) -> ShownScan:
    measures = measure_scan(scan)
    tumour = scan.mask("tumour")
    half_hu = imaging.window_clip * imaging.window_width_hu
    tile = TileScan(
        ct_hu=scan.ct_hu,
        liver=scan.mask("liver"),
        tumour=tumour,
        spacing_mm=scan.grid_spacing_mm,
        window_hu=(
            imaging.window_centre_hu - half_hu,
            imaging.window_centre_hu + half_hu,
        ),
    )
    target = "tumour" if tumour.any() else "liver"
    described = f"CT in three planes, where most of the {target} is"
    return ShownScan(
        row_number=row_number,
        number=number,
        time_months=record.time_months,
        time_assumed=record.time_assumed,
        slice_spacing_mm=scan.series_spacing_mm[0],
        pixel_spacing_mm=float(np.mean(scan.series_spacing_mm[1:])),
        liver_share_inside=scan.liver_share_inside,
        repairs=record.repairs,
        measures=measures,
        tile=draw_tile(tile, name, described),
        oddities=find_oddities(scan, measures),
    )
