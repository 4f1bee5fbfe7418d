import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from references.serial_scans import GRID, serial_contract
from safetensors.numpy import save

from acfnet_core.cohort.contract import CHANNELS, ImagingExpectations
from acfnet_core.cohort.images.volume import LABEL_BITS
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.scan_job import METADATA_KEY
from acfnet_core.cohort.prepared.stored_scan import (
    ScanMeasures,
    StoredScan,
    find_oddities,
    measure_scan,
    read_stored_scan,
)
from acfnet_core.errors import DataError

VOXEL_ML = 0.15  # 6 x 5 x 5 mm


def make_scan(*, tumour_outside: int = 0, share_inside: float = 1.0) -> StoredScan:
    """A liver of 100 HU and 480 voxels, with a tumour of 40 HU and 20 voxels."""
    ct_hu = np.zeros(GRID, np.int16)
    labels = np.zeros(GRID, np.uint8)
    labels[:5, :12, :8] = LABEL_BITS["liver"]
    ct_hu[labels != 0] = 100
    tumour = np.zeros(GRID, np.bool_)
    tumour[0, 0, : 20 - 12 - tumour_outside] = True
    tumour[1, :12, 0] = True
    tumour[7, 15, :tumour_outside] = True
    labels[tumour] |= LABEL_BITS["tumour"]
    ct_hu[tumour] = 40
    return StoredScan(
        ct_hu=ct_hu,
        labels=labels,
        grid_spacing_mm=(6.0, 5.0, 5.0),
        series_spacing_mm=(2.5, 0.8, 0.8),
        liver_share_inside=share_inside,
    )


def imaging_of() -> ImagingExpectations:
    imaging = serial_contract().imaging
    assert imaging is not None
    return imaging


def write(folder: Path, scan: StoredScan) -> ScanRecord:
    metadata = {
        "series_spacing_mm": scan.series_spacing_mm,
        "liver_share_inside": scan.liver_share_inside,
    }
    content = save(
        {"ct_hu": scan.ct_hu, "labels": scan.labels},
        metadata={METADATA_KEY: json.dumps(metadata)},
    )
    file = "scans/aa/0.safetensors"
    (folder / "scans" / "aa").mkdir(parents=True)
    (folder / file).write_bytes(content)
    return ScanRecord(
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        time_months=-1.0,
        time_assumed=False,
        channel_mask=(True,) * len(CHANNELS),
    )


def test_a_scan_is_read_as_it_was_stored(tmp_path: Path) -> None:
    scan = make_scan(share_inside=0.97)
    read = read_stored_scan(tmp_path, write(tmp_path, scan), imaging_of())
    assert (read.ct_hu == scan.ct_hu).all()
    assert (read.labels == scan.labels).all()
    assert (read.series_spacing_mm, read.liver_share_inside) == ((2.5, 0.8, 0.8), 0.97)


def test_one_changed_byte_is_damage(tmp_path: Path) -> None:
    record = write(tmp_path, make_scan())
    path = tmp_path / record.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is missing, damaged"):
        read_stored_scan(tmp_path, record, imaging_of())


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    record = write(tmp_path, make_scan())
    (tmp_path / record.file).unlink()
    with pytest.raises(DataError) as caught:
        read_stored_scan(tmp_path, record, imaging_of())
    assert caught.value.code == "data.store_damaged"


def test_another_grid_is_damage(tmp_path: Path) -> None:
    record = write(tmp_path, make_scan())
    imaging = imaging_of().model_copy(update={"grid_shape": (8, 16, 17)})
    with pytest.raises(DataError, match="is missing, damaged"):
        read_stored_scan(tmp_path, record, imaging)


def test_volumes_are_those_of_the_voxels() -> None:
    measures = measure_scan(make_scan())
    assert measures.liver_ml == pytest.approx(480 * VOXEL_ML)
    assert measures.tumour_ml == pytest.approx(20 * VOXEL_ML)


def test_the_part_of_the_liver_beyond_the_grid_is_added() -> None:
    measures = measure_scan(make_scan(share_inside=0.8))
    assert measures.liver_ml == pytest.approx(480 * VOXEL_ML / 0.8)


def test_the_mean_is_that_of_the_whole_liver() -> None:
    expected = (460 * 100 + 20 * 40) / 480
    assert measure_scan(make_scan()).liver_hu == pytest.approx(expected)


def test_a_tumours_share_outside_of_the_liver_is_found() -> None:
    assert measure_scan(make_scan(tumour_outside=5)).tumour_share_outside == 0.25


def test_without_a_tumour_no_share_of_it_is_told() -> None:
    scan = make_scan()
    plain = replace(scan, labels=scan.labels & np.uint8(LABEL_BITS["liver"]))
    assert measure_scan(plain).tumour_share_outside is None


SOUND = ScanMeasures(
    liver_hu=95.0, liver_ml=1500.0, tumour_ml=10.0, tumour_share_outside=0.05
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ()),
        ({"liver_ml": 499.0}, ("liver 499 ml",)),
        ({"liver_ml": 4001.0}, ("liver 4001 ml",)),
        ({"liver_hu": 19.0}, ("liver 19 HU",)),
        ({"liver_hu": 181.0}, ("liver 181 HU",)),
        ({"liver_hu": None}, ("no liver in the grid",)),
        (
            {"tumour_share_outside": 0.2},
            ("20 % of the tumour outside the liver",),
        ),
    ],
)
def test_what_is_odd_is_named_with_its_figure(
    change: dict[str, float | None], words: tuple[str, ...]
) -> None:
    measures = ScanMeasures(**{**vars(SOUND), **change})
    assert find_oddities(make_scan(), measures) == words


def test_a_liver_that_is_cut_off_by_the_grid_is_odd() -> None:
    odd = find_oddities(make_scan(share_inside=0.9), SOUND)
    assert odd == ("90 % of the liver in the grid",)
