import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from references.ct_series import (
    PATIENT_NAME,
    SHAPE,
    hu_at,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.segmentation import choose_segmentation
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.scan_job import ScanJob, run_job
from acfnet_core.cohort.prepared.scan_plan import PlannedScan
from acfnet_core.cohort.prepared.scan_source import (
    FoundScan,
    find_scan,
    open_scan,
    read_source_headers,
)
from acfnet_core.errors import DataError

PATIENT = "CANARY-001"
DATES = ("19911206", "19920606")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A patient's two studies, beside another patient's, and the first prepared."""

    images: Path
    store: Path
    record: ScanRecord


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _write_study(folder: Path, patient_id: str, date: str) -> None:
    slices = make_series(patient_id, study_date=date)
    masks = {"Liver": liver_box(), "Tumor_1": np.zeros(SHAPE, np.uint8)}
    masks["Tumor_1"][5, 12:16, 10:14] = 1
    write_segmentation(slices, folder / date / "seg" / "1.dcm", masks)
    write_series(slices, folder / date / "ct")


def _prepare(images: Path, store: Path, date: str) -> ScanRecord:
    index = index_folder(images / "a")
    (series,) = (
        one
        for one in gate_index(index, _imaging())
        if one.headers[0].study_date == date
    )
    scan = PlannedScan(
        series=series,
        segmentation=choose_segmentation(series, index.segmentations, _imaging()),
        time_months=-1.0,
        time_assumed=False,
    )
    job = ScanJob(
        store_folder=store, pseudonym="abc", scans=(scan,), imaging=_imaging()
    )
    (record,) = run_job(job).scans
    return record


@pytest.fixture
def site(tmp_path: Path) -> Site:
    images, store = tmp_path / "images", tmp_path / "store"
    for date in DATES:
        _write_study(images / "a", PATIENT, date)
    _write_study(images / "b", "CANARY-002", DATES[0])
    return Site(images=images, store=store, record=_prepare(images, store, DATES[0]))


def _find(site: Site, patient_id: str = PATIENT) -> FoundScan:
    return find_scan(site.images, patient_id, site.record, _imaging())


def _code_of_finding(site: Site, patient_id: str = PATIENT) -> str:
    with pytest.raises(DataError) as caught:
        _find(site, patient_id)
    return caught.value.code


@pytest.mark.parametrize("date", DATES)
def test_the_study_that_a_scan_was_prepared_from_is_found(
    site: Site, date: str
) -> None:
    record = _prepare(site.images, site.store, date)
    found = find_scan(site.images, PATIENT, record, _imaging())
    assert found.series.headers[0].study_date == date
    assert found.segmentation.path.parent.parent.name == date


def test_a_series_that_came_later_does_not_hide_it(site: Site) -> None:
    slices = make_series(PATIENT, study_date=DATES[0], number=1)
    write_series(slices, site.images / "a" / "later")
    assert _find(site).series.headers[0].path.parent.name == "ct"


def test_a_folder_that_moved_is_the_same_source(site: Site, tmp_path: Path) -> None:
    moved = site.images.rename(tmp_path / "elsewhere")
    found = find_scan(moved, PATIENT, site.record, _imaging())
    assert found.series.headers[0].study_date == DATES[0]


def test_another_patients_files_are_not_taken(site: Site) -> None:
    assert _code_of_finding(site, "CANARY-002") == "data.source_changed"


def test_files_that_are_gone_are_told(site: Site) -> None:
    shutil.rmtree(site.images / "a" / DATES[0])
    assert _code_of_finding(site) == "data.source_changed"


@pytest.mark.parametrize("part", ["ct", "seg"])
def test_a_file_that_was_changed_is_told(site: Site, part: str) -> None:
    path = next((site.images / "a" / DATES[0] / part).iterdir())
    dataset = dcmread(path)
    dataset.AccessionNumber = "1"
    dataset.save_as(path)
    assert _code_of_finding(site) == "data.source_changed"


def test_another_specification_is_not_this_scans(site: Site) -> None:
    other = _imaging().model_copy(update={"window_width_hu": 400.0})
    with pytest.raises(DataError, match="was prepared from") as caught:
        find_scan(site.images, PATIENT, site.record, other)
    assert caught.value.code == "data.source_changed"


def test_a_folder_that_is_not_there_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_scan(tmp_path / "none", PATIENT, site.record, _imaging())
    assert caught.value.code == "data.path_not_found"


def test_no_message_names_the_patient(site: Site) -> None:
    shutil.rmtree(site.images / "a" / DATES[0])
    with pytest.raises(DataError) as caught:
        _find(site)
    shown = f"{caught.value!r} {caught.value.as_json()} {caught.value.__cause__}"
    assert PATIENT not in shown
    assert PATIENT_NAME not in shown


def test_an_opened_scan_has_its_voxels_and_masks_in_place(site: Site) -> None:
    opened = open_scan(site.store, site.record, _find(site), _imaging())
    corner = (opened.volume.affine @ [3, 8, 6, 1.0])[:3]
    assert opened.volume.hu[3, 8, 6] == hu_at(corner)
    np.testing.assert_array_equal(opened.masks["liver"], liver_box() > 0)
    assert opened.masks["tumour"].sum() == 16


def test_the_grids_origin_puts_its_centre_on_the_livers(site: Site) -> None:
    opened = open_scan(site.store, site.record, _find(site), _imaging())
    half = (np.array(_imaging().grid_shape) - 1) / 2
    half_mm = (half * _imaging().grid_spacing_mm)[::-1]
    # `liver_box` is slices 3-8, rows 8-23 and columns 6-20.
    middle = (opened.volume.affine @ [5.5, 15.5, 13, 1.0])[:3]
    np.testing.assert_allclose(opened.grid_origin_mm + half_mm, middle, atol=1e-6)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_damaged_prepared_file_is_told(site: Site, damage: str) -> None:
    found = _find(site)
    path = site.store / site.record.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_scan(site.store, site.record, found, _imaging())
    assert caught.value.code == "data.store_damaged"


def test_a_prepared_file_of_another_specification_is_told(site: Site) -> None:
    other = _imaging().model_copy(update={"window_width_hu": 400.0})
    with pytest.raises(DataError) as caught:
        open_scan(site.store, site.record, _find(site), other)
    assert caught.value.code == "data.store_damaged"


def test_source_headers_stand_in_the_order_of_the_slices(site: Site) -> None:
    found = _find(site)
    heights = [
        float(header.ImagePositionPatient[2])
        for header in read_source_headers(found.series)
    ]
    assert heights == sorted(heights)
    assert len(heights) == SHAPE[0]


def test_source_headers_have_no_pixels(site: Site) -> None:
    headers = read_source_headers(_find(site).series)
    assert not any("PixelData" in header for header in headers)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every file")
def test_a_source_that_cannot_be_read_is_not_found(site: Site) -> None:
    path = next((site.images / "a" / DATES[0] / "ct").iterdir())
    path.chmod(stat.S_IWUSR)
    assert _code_of_finding(site) == "data.source_changed"


def test_a_source_that_vanished_is_refused(site: Site) -> None:
    found = _find(site)
    found.series.headers[2].path.unlink()
    with pytest.raises(ScanRefusedError) as caught:
        read_source_headers(found.series)
    assert caught.value.reason_code == "DECODE_FAILED"
