"""A patient's risk maps on the scan that they came from: a picture, and DICOM files.

Axes: `year slice row column`, of the latest scan. One year's map is held at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acf_client.prediction_record import PredictionRecord
from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.maps.map_dicom import write_parametric_map
from acfnet_core.cohort.maps.map_geometry import lay_on_series
from acfnet_core.cohort.maps.map_overlay import scale_of, write_overlay
from acfnet_core.cohort.prepared.scan_source import (
    FoundScan,
    OpenedScan,
    find_scan,
    open_scan,
    read_source_headers,
)
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedInputs
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.files import PRIVATE_MODE, write_atomically
from acfnet_core.pictures.axial_view import view_axially
from acfnet_core.pictures.risk_map_panels import choose_slices
from acfnet_core.pictures.scan_panels import (
    ScanOfPatient,
    draw_scan_panels,
    shown_years,
)
from acfnet_core.training.prediction import PatientPrediction

PICTURE = "risk-maps.png"
PARAMETRIC_MAPS = "parametric-maps"
OVERLAYS = "overlays"


@dataclass(frozen=True, kw_only=True)
class MapsOnScan:
    """Risk maps and the scan that they are laid on.

    Attributes:
        maps: On the prepared grid, `[year depth height width]`, supported years alone.
        years: The year of each map.
    """

    found: FoundScan
    opened: OpenedScan
    imaging: ImagingExpectations
    maps: NDArray[np.float32]
    years: tuple[int, ...]

    def densities(self, chosen: list[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the chosen maps on the scan's voxels, one after the other."""
        for index in chosen:
            yield lay_on_series(
                self.maps[index : index + 1],
                origin_mm=self.opened.grid_origin_mm,
                spacing_mm=self.imaging.grid_spacing_mm,
                series=self.opened.volume,
            )[0]


def open_maps(
    sources: CohortSources,
    patient_id: str,
    cohort: PreparedCohort,
    patient: PreparedInputs,
    prediction: PatientPrediction,
    num_supported: int,
) -> MapsOnScan:
    """Open the latest scan that the model read, to lay the maps on it.

    Args:
        sources: Where the site's images lie.
        patient_id: As DICOM has it; it is used to find the files and for nothing else.
        cohort: The store that the patient is of.
        patient: Whose last scan is taken.
        prediction: Of this patient.
        num_supported: How many of the maps, from the first, are shown.

    Raises:
        DataError: The scan's files are gone, were changed or cannot be read.
        ValueError: The cohort's contract, or the site, has no images.
    """
    imaging = cohort.contract.imaging
    if imaging is None or sources.images_folder is None:
        raise ValueError("a patient with scans has a contract with imaging")
    record = patient.scans[-1]
    found = find_scan(
        sources.images_folder,
        patient_id,
        record,
        imaging,
        nifti_labels=sources.nifti_labels,
        repairs=sources.repairs,
        notes_folder=sources.notes_folder,
    )
    return MapsOnScan(
        found=found,
        opened=open_scan(cohort.folder, record, found, imaging),
        imaging=imaging,
        maps=prediction.risk_maps[:num_supported],
        years=prediction.years[:num_supported],
    )


def write_picture(folder: Path, on_scan: MapsOnScan, record: PredictionRecord) -> None:
    """Write the maps of the shown years over slices of the scan.

    Raises:
        MachineError: The file cannot be written.
    """
    volume, masks = on_scan.opened.volume, on_scan.opened.masks
    view = view_axially(volume.affine)
    liver = view.turn(_mask("liver", masks, volume.hu.shape))
    tumour = view.turn(_mask("tumour", masks, volume.hu.shape))
    slices = choose_slices(liver, tumour)
    chosen = shown_years(on_scan.years)
    imaging = on_scan.imaging
    half_hu = imaging.window_clip * imaging.window_width_hu
    scan = ScanOfPatient(
        ct_hu=view.turn(volume.hu)[slices].astype(np.float32),
        liver=liver[slices],
        tumour=tumour[slices],
        maps=np.stack(
            [view.turn(density)[slices] for density in on_scan.densities(chosen)]
        ),
        slice_numbers=tuple(number + 1 for number in slices),
        num_slices=len(liver),
        spacing_mm=view.spacing_mm,
        window_hu=(
            imaging.window_centre_hu - half_hu,
            imaging.window_centre_hu + half_hu,
        ),
        years=tuple(on_scan.years[index] for index in chosen),
        survival=tuple(_survival_at(record, on_scan.years[index]) for index in chosen),
        heading=f"Risk maps over the latest scan, {describe_time(record)}",
    )
    write_atomically(folder / PICTURE, draw_scan_panels(scan), mode=PRIVATE_MODE)


def write_dicom(folder: Path, on_scan: MapsOnScan) -> None:
    """Write a parametric map of every year, and overlays of the shown years.

    They are of the patient's own study and carry the patient's identity.

    Raises:
        DataError: A file of the scan cannot be read any more.
        MachineError: A file cannot be written.
    """
    sources = read_source_headers(on_scan.found.series)
    every = list(range(len(on_scan.years)))
    scale = max(scale_of(density) for density in on_scan.densities(every))
    with_overlay = set(shown_years(on_scan.years))
    imaging = on_scan.imaging
    window_hu = (
        imaging.window_centre_hu,
        2 * imaging.window_clip * imaging.window_width_hu,
    )
    for index, density in enumerate(on_scan.densities(every)):
        year = on_scan.years[index]
        path = folder / PARAMETRIC_MAPS / f"year-{year:02d}.dcm"
        write_parametric_map(path, density, sources, year=year)
        if index in with_overlay:
            write_overlay(
                folder / OVERLAYS / f"year-{year:02d}",
                on_scan.opened.volume.hu,
                density,
                sources,
                year=year,
                scale=scale,
                window_hu=window_hu,
            )


def describe_time(record: PredictionRecord) -> str:
    """Say when the latest scan was made.

    Raises:
        IndexError: No scan was read.
    """
    scan = record.scans[-1]
    if scan.time_assumed:
        return f"taken to be at {record.counted_from}"
    side = "before" if scan.time_months < 0 else "after"
    return f"{abs(scan.time_months):.1f} months {side} {record.counted_from}"


def _mask(
    channel: str, masks: dict[str, NDArray[np.bool_]], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return a channel's mask; empty where the scan has none."""
    mask = masks.get(channel)
    return np.zeros(shape, np.uint8) if mask is None else mask.astype(np.uint8)


def _survival_at(record: PredictionRecord, year: int) -> float:
    """Return the projected survival at a year's end, which every model's bins have."""
    index = record.bin_at_year(year)
    if index is None:
        raise ValueError(f"no bin ends at year {year}")
    return record.survival.values[index]
