"""Series with a fault that a site lets be mended, each against its known world."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from references.ct_series import (
    SHAPE,
    hu_at,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.mendable_series import FAULTS, empty_uids, no_patient, tilt

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_index, gate_series
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import (
    ALL_REPAIRS,
    NO_REPAIRS,
    Repairs,
    mend_index,
)
from acfnet_core.cohort.images.volume import SeriesVolume, lay_on_grid
from acfnet_core.cohort.masks.segmentation import (
    choose_segmentation,
    read_segmentation,
)

IMAGING = shipped_contract("crlm").imaging
assert IMAGING is not None
FINE = IMAGING.model_copy(
    update={"grid_shape": (16, 32, 32), "grid_spacing_mm": (4.0, 5.0, 5.0)}
)


def gated(folder: Path, repairs: Repairs) -> GatedSeries:
    index = mend_index(index_folder(folder), folder, repairs)
    (series,) = gate_index(index, FINE, repairs)
    return series


def written(folder: Path, *codes: str) -> list[Dataset]:
    slices = make_series()
    for code in codes:
        FAULTS[code](slices)
    write_series(slices, folder / "P-007" / "ct")
    return slices


@pytest.mark.parametrize("code", FAULTS)
def test_nothing_is_mended_unless_the_site_says_so(code: str, tmp_path: Path) -> None:
    written(tmp_path, code)
    series = gated(tmp_path, NO_REPAIRS)
    assert (series.is_accepted, series.codes) == (False, (code,))


@pytest.mark.parametrize(
    "codes",
    [
        ("GANTRY_TILT",),
        ("MISSING_SLICES",),
        ("EMPTY_UID",),
        ("NO_PATIENT_ID",),
        ("GANTRY_TILT", "MISSING_SLICES"),
        ("EMPTY_UID", "GANTRY_TILT", "MISSING_SLICES", "NO_PATIENT_ID"),
    ],
)
def test_a_mended_series_has_the_values_of_its_places(
    codes: tuple[str, ...], tmp_path: Path
) -> None:
    written(tmp_path, *codes)
    series = gated(tmp_path, ALL_REPAIRS)
    assert (series.codes, sorted(series.repaired)) == ((), sorted(codes))
    volume = read_dicom_series(series)
    assert volume.hu.shape == SHAPE
    # A place is told to a thousandth of a millimetre, a value to a whole HU; a lost
    # slice is the mean of two.
    assert np.abs(volume.hu - _world(volume)).max() <= 1.01


def _world(volume: SeriesVolume) -> np.ndarray:
    index = np.stack(
        np.meshgrid(*map(np.arange, volume.hu.shape), indexing="ij"), axis=-1
    )
    places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return hu_at(places)


def test_a_tilted_series_lies_right_on_the_grid(tmp_path: Path) -> None:
    slices = written(tmp_path, "GANTRY_TILT")
    volume = read_dicom_series(gated(tmp_path, ALL_REPAIRS))
    assert volume.is_sheared
    grid = lay_on_grid(volume, {"liver": liver_box().astype(bool)}, FINE)
    depth, height, width = np.meshgrid(*map(np.arange, FINE.grid_shape), indexing="ij")
    places = np.stack([width * 5.0, height * 5.0, depth * 4.0], axis=-1) + np.array(
        grid.origin_mm
    )
    inside = grid.labels != 0
    # 2 HU a millimetre in y: a tenth of a millimetre, and rounding on the way.
    assert np.abs(grid.ct_hu - hu_at(places))[inside].max() <= 1.5
    assert np.count_nonzero(inside) > 500
    assert len(slices) == SHAPE[0]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_on_tilted_slices_keeps_every_voxel(
    kind: str, tmp_path: Path
) -> None:
    slices = written(tmp_path, "GANTRY_TILT")
    path = tmp_path / "P-007" / "seg" / "s.dcm"
    path.parent.mkdir()
    write_segmentation(slices, path, {"Liver": liver_box()}, kind=kind)
    index = mend_index(index_folder(tmp_path), tmp_path, ALL_REPAIRS)
    (series,) = gate_index(index, FINE, ALL_REPAIRS)
    (file,) = index.segmentations
    masks = read_segmentation(file, read_dicom_series(series), FINE)
    assert np.array_equal(masks["liver"], liver_box().astype(bool))


def test_a_mask_on_a_lost_slice_lies_between_its_neighbours(tmp_path: Path) -> None:
    slices = written(tmp_path, "MISSING_SLICES")
    path = tmp_path / "P-007" / "s.dcm"
    drawn = np.delete(liver_box(), 6, axis=0)
    drawn[6:, 20:] = 0
    write_segmentation(slices, path, {"Liver": drawn}, kind="BINARY")
    index = index_folder(tmp_path)
    (series,) = gate_index(index, FINE, ALL_REPAIRS)
    volume = read_dicom_series(series)
    masks = read_segmentation(index.segmentations[0], volume, FINE)
    assert volume.lost_slices == (6,)
    rows = np.flatnonzero(masks["liver"][6].any(axis=1))
    assert (rows[0], rows[-1]) == (8, 21)


@pytest.mark.parametrize("lost", [(5, 6), (2, 5, 8, 10)])
def test_more_than_single_lost_slices_stay_refused(
    lost: tuple[int, ...], tmp_path: Path
) -> None:
    slices = make_series()
    for number in reversed(lost):
        del slices[number]
    write_series(slices, tmp_path / "P-007")
    assert not gated(tmp_path, ALL_REPAIRS).is_accepted


def test_a_slice_that_slipped_is_no_tilt(tmp_path: Path) -> None:
    slices = make_series()
    x, y, z = map(float, slices[5].ImagePositionPatient)
    slices[5].ImagePositionPatient = [x, y + 2, z]
    write_series(slices, tmp_path / "P-007")
    assert gated(tmp_path, ALL_REPAIRS).codes == ("GANTRY_TILT",)


def test_a_patient_is_never_renamed(tmp_path: Path) -> None:
    write_series(make_series("P-007"), tmp_path / "somebody-else")
    series = gated(tmp_path, ALL_REPAIRS)
    assert (series.headers[0].patient_id, series.repaired) == ("P-007", ())


def test_files_without_a_folder_stay_nobodys(tmp_path: Path) -> None:
    slices = make_series()
    no_patient(slices)
    write_series(slices, tmp_path)
    assert gated(tmp_path, ALL_REPAIRS).codes == ("NO_PATIENT_ID",)


def test_made_up_uids_are_the_same_at_every_reading(tmp_path: Path) -> None:
    written(tmp_path, "EMPTY_UID")
    first, second = (gated(tmp_path, ALL_REPAIRS).headers for _ in range(2))
    assert first == second
    assert len({header.sop_instance_uid for header in first}) == SHAPE[0]


def test_a_derived_image_without_uids_stays_refused(tmp_path: Path) -> None:
    slices = make_series()
    empty_uids(slices)
    for one in slices:
        one.ImageType = ["DERIVED", "SECONDARY"]
    write_series(slices, tmp_path / "P-007")
    assert "NOT_ORIGINAL_PRIMARY" in gated(tmp_path, ALL_REPAIRS).codes


def test_a_file_with_another_uid_than_at_the_index_is_refused(tmp_path: Path) -> None:
    slices = written(tmp_path)
    series = gated(tmp_path, NO_REPAIRS)
    slices[3].SOPInstanceUID = "1.2.3.4"
    write_series(slices, tmp_path / "P-007" / "ct")
    with pytest.raises(ScanRefusedError, match="DECODE_FAILED"):
        read_dicom_series(series)


@pytest.mark.parametrize(("degrees", "is_accepted"), [(30.0, True), (40.0, False)])
def test_no_gantry_tilts_further_than_gantries_do(
    degrees: float, is_accepted: bool, tmp_path: Path
) -> None:
    slices = make_series()
    tilt(slices, degrees=degrees)
    write_series(slices, tmp_path / "P-007")
    assert gated(tmp_path, ALL_REPAIRS).is_accepted is is_accepted


def test_of_two_slices_nobody_can_tell_a_tilt(tmp_path: Path) -> None:
    slices = make_series(num_slices=2)
    tilt(slices)
    write_series(slices, tmp_path / "P-007")
    (headers,) = index_folder(tmp_path).ct_series
    assert gate_series(headers, None, repairs=ALL_REPAIRS).codes == ("GANTRY_TILT",)


def test_two_series_of_one_folder_are_not_made_one(tmp_path: Path) -> None:
    slices = make_series()
    empty_uids(slices)
    for one in slices[1::2]:
        one.SeriesNumber = 2
    write_series(slices, tmp_path / "P-007")
    assert gated(tmp_path, ALL_REPAIRS).codes == ("EMPTY_UID",)


def test_files_without_uids_beside_others_may_be_of_their_series(
    tmp_path: Path,
) -> None:
    slices = make_series()
    empty_uids(slices[6:])
    write_series(slices, tmp_path / "P-007")
    index = mend_index(index_folder(tmp_path), tmp_path, ALL_REPAIRS)
    codes = [series.codes for series in gate_index(index, FINE, ALL_REPAIRS)]
    assert sorted(codes) == [(), ("EMPTY_UID",)]


@pytest.mark.parametrize(("second_day", "num_studies"), [("", 1), ("19920707", 2)])
def test_series_of_one_day_without_uids_are_of_one_study(
    second_day: str, num_studies: int, tmp_path: Path
) -> None:
    for name, day in (("a", ""), ("b", second_day)):
        slices = make_series(study_date=day or "19920606")
        empty_uids(slices)
        write_series(slices, tmp_path / "P-007" / name)
    index = mend_index(index_folder(tmp_path), tmp_path, ALL_REPAIRS)
    studies = {header.study_uid for (header, *_) in index.ct_series}
    assert len(studies) == num_studies


def test_a_segmentation_without_a_patient_is_of_its_folders(tmp_path: Path) -> None:
    slices = written(tmp_path, "NO_PATIENT_ID")
    write_segmentation(slices, tmp_path / "P-007" / "s.dcm", {"Liver": liver_box()})
    index = mend_index(index_folder(tmp_path), tmp_path, ALL_REPAIRS)
    (series,) = gate_index(index, FINE, ALL_REPAIRS)
    assert choose_segmentation(series, index.segmentations, FINE).path.name == "s.dcm"
