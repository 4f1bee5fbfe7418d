"""Masks and maps on a series whose slices are shifted sideways, and read as they lie.

The world is 120 x 130 x 130 mm, under a gantry tilted by 15 degrees.
"""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.mendable_series import lose_one, tilt
from references.structure_sets import (
    Contour,
    affine_of,
    box,
    liver_contours,
    write_nifti,
    write_structures,
)

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, mend_index
from acfnet_core.cohort.images.volume import LABEL_BITS, SeriesVolume, lay_on_grid
from acfnet_core.cohort.maps.map_geometry import lay_on_series
from acfnet_core.cohort.masks.segmentation import (
    Masks,
    choose_segmentation,
    read_segmentation,
    segmentations_of,
)

DRIFT = float(np.tan(np.radians(15.0)))
GRADIENT_HU = np.array([10.0, 20.0, 15.0])
"""HU for each millimetre along x, y, z."""
MIDDLE_HU = 1000.0
CENTRE_MM = np.array([3.0, -4.0, 2.0])
RADIUS_MM = 45.0


def _imaging(**changes: object) -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging.model_copy(update=changes)


def _read(folder: Path) -> tuple[SeriesVolume, Masks]:
    index = mend_index(index_folder(folder), folder, ALL_REPAIRS)
    (series,) = gate_index(index, _imaging(), ALL_REPAIRS)
    drawn = segmentations_of(index, {1: ("Liver",)})
    chosen = choose_segmentation(series, drawn, _imaging())
    volume = read_dicom_series(series)
    return volume, read_segmentation(chosen, volume, _imaging())


def _refusal_of(folder: Path) -> str:
    with pytest.raises(ScanRefusedError) as caught:
        _read(folder)
    return caught.value.reason_code


def _tilted(folder: Path) -> list[Dataset]:
    slices = make_series()
    tilt(slices)
    write_series(slices, folder / "P-007" / "ct")
    return slices


def test_structures_are_read_on_the_tilted_slices(tmp_path: Path) -> None:
    slices = _tilted(tmp_path)
    path = tmp_path / "P-007" / "structures.dcm"
    write_structures(slices, path, {"Liver": liver_contours()})
    assert np.array_equal(_read(tmp_path)[1]["liver"], liver_box().astype(bool))


def test_structures_count_where_they_lie(tmp_path: Path) -> None:
    _tilted(tmp_path)
    # That slice has drifted by 25 mm * tan(15 degrees), which is 1.1 rows.
    contours: list[Contour] = [(5, box((8, 6), (23, 20)))]
    path = tmp_path / "P-007" / "structures.dcm"
    write_structures(make_series(), path, {"Liver": contours})
    rows = np.flatnonzero(_read(tmp_path)[1]["liver"][5].any(axis=1))
    assert (rows[0], rows[-1]) == (7, 22)


def test_a_segmentation_of_untilted_slices_is_refused(tmp_path: Path) -> None:
    _tilted(tmp_path)
    path = tmp_path / "P-007" / "seg.dcm"
    write_segmentation(make_series(), path, {"Liver": liver_box()})
    assert _refusal_of(tmp_path) == "SEG_OFF_GRID"


@pytest.mark.parametrize("is_tilted", [True, False])
def test_nifti_on_a_tilted_series_is_refused(is_tilted: bool, tmp_path: Path) -> None:
    slices = _tilted(tmp_path)
    affine = affine_of(slices if is_tilted else make_series())
    if is_tilted:
        # The writer has right angles alone: the place comes as near as it can.
        affine[:3, 0] = np.array([0, 0, np.linalg.norm(affine[:3, 0])])
    write_nifti(tmp_path / "P-007" / "ct" / "seg.nii.gz", liver_box(), affine)
    assert _refusal_of(tmp_path) == "NIFTI_TILTED"


def test_a_tilted_series_with_a_lost_slice_keeps_its_mask(tmp_path: Path) -> None:
    slices = make_series()
    tilt(slices)
    lose_one(slices)
    folder = tmp_path / "P-007"
    write_series(slices, folder / "ct")
    drawn = np.delete(liver_box(), 6, axis=0)
    write_segmentation(slices, folder / "seg.dcm", {"Liver": drawn})
    volume, masks = _read(tmp_path)
    assert (volume.is_sheared, volume.lost_slices) == (True, (6,))
    assert np.array_equal(masks["liver"], liver_box().astype(bool))


def test_a_mask_that_was_drawn_before_the_slice_was_lost_is_kept(
    tmp_path: Path,
) -> None:
    slices, folder = _tilted(tmp_path), tmp_path / "P-007"
    drawn = liver_box()
    drawn[6] = 0
    drawn[6, 10:12, 8:10] = 1
    write_segmentation(slices, folder / "seg.dcm", {"Liver": drawn})
    shutil.rmtree(folder / "ct")
    lose_one(slices)
    write_series(slices, folder / "ct")
    assert np.array_equal(_read(tmp_path)[1]["liver"], drawn.astype(bool))


def _world(*, is_gantry: bool) -> tuple[SeriesVolume, npt.NDArray[np.float64]]:
    """Return a tilted series of a linear field, and the place of each voxel.

    Its slices drift over an axial plane, or the gantry leans and the table goes
    straight on.
    """
    spacing, shape = np.array([2.5, 1.0, 1.0]), (48, 130, 130)
    affine = np.eye(4)
    if is_gantry:
        cosine = 1 / np.sqrt(1 + DRIFT**2)
        affine[:3, 0] = [0, 0, spacing[0] / cosine]
        affine[:3, 1] = np.array([0, cosine, -cosine * DRIFT]) * spacing[1]
    else:
        affine[:3, 0] = np.array([0, DRIFT, 1]) * spacing[0]
        affine[:3, 1] = [0, spacing[1], 0]
    affine[:3, 2] = [spacing[2], 0, 0]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    series = SeriesVolume(
        hu=(MIDDLE_HU + places @ GRADIENT_HU).astype(np.float32),
        affine=affine,
        spacing_mm=(2.5, 1.0, 1.0),
        frame_of_reference_uid="1.2",
        study_date="19920606",
    )
    return series, places


@pytest.mark.parametrize("is_gantry", [True, False])
def test_a_field_under_tilt_comes_to_its_place(is_gantry: bool) -> None:
    series, places = _world(is_gantry=is_gantry)
    ball = np.linalg.norm(places - CENTRE_MM, axis=-1) < RADIUS_MM
    grid = lay_on_grid(series, {"liver": ball}, _imaging())
    inside = (grid.labels & LABEL_BITS["liver"]) != 0
    expected = MIDDLE_HU + _places_of(grid.origin_mm, _imaging()) @ GRADIENT_HU
    # A tenth of a millimetre is 2.7 HU; half a HU is the rounding of what is stored.
    assert np.abs(grid.ct_hu - expected)[inside].max() <= 0.8
    assert np.count_nonzero(inside) > 1000


@pytest.mark.parametrize("is_gantry", [True, False])
def test_a_ball_under_tilt_keeps_its_centre_and_its_volume(is_gantry: bool) -> None:
    series, places = _world(is_gantry=is_gantry)
    ball = np.linalg.norm(places - CENTRE_MM, axis=-1) < RADIUS_MM
    # As many steps of the grid for each slice, or nearest voxels shift the centre.
    fine = _imaging(grid_shape=(200, 100, 100), grid_spacing_mm=(0.5, 1.0, 1.0))
    grid = lay_on_grid(series, {"liver": ball}, fine)
    found = _places_of(grid.origin_mm, fine)[grid.labels != 0]
    np.testing.assert_allclose(found.mean(axis=0), CENTRE_MM, atol=0.1)
    assert len(found) == pytest.approx(8 / 3 * np.pi * RADIUS_MM**3, rel=0.01)


@pytest.mark.parametrize("is_gantry", [True, False])
def test_a_map_under_tilt_keeps_its_sum_and_its_centre(is_gantry: bool) -> None:
    series, places = _world(is_gantry=is_gantry)
    values = np.zeros((1, 24, 48, 48), np.float32)
    values[0, 10:14, 20:28, 18:30] = 0.01
    origin_mm = (-118.0, -118.0, -69.0)
    imaging = _imaging()
    density = lay_on_series(
        values,
        origin_mm=origin_mm,
        spacing_mm=imaging.grid_spacing_mm,
        series=series,
    )[0]
    voxel_ml = np.prod(series.spacing_mm) / 1000
    assert density.sum() * voxel_ml == pytest.approx(values.sum(), rel=0.01)
    weights = values[0] / values.sum()
    expected = (_places_of(origin_mm, imaging) * weights[..., None]).sum((0, 1, 2))
    found = (places * (density / density.sum())[..., None]).sum((0, 1, 2))
    np.testing.assert_allclose(found, expected, atol=0.1)


def _places_of(
    origin_mm: tuple[float, float, float], imaging: ImagingExpectations
) -> npt.NDArray[np.float64]:
    """Return the place (x, y, z) of each voxel of the grid."""
    index = np.stack(
        np.meshgrid(*map(np.arange, imaging.grid_shape), indexing="ij"), axis=-1
    )
    steps = (index * np.array(imaging.grid_spacing_mm))[..., ::-1]
    return np.asarray(steps + np.array(origin_mm))
