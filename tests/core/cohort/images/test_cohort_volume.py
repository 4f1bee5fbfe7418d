import numpy as np
import pytest
from references.ct_series import hu_at

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.volume import (
    LABEL_BITS,
    SeriesVolume,
    lay_on_grid,
    to_channels,
)

SHAPE = (60, 90, 80)
SPACING_MM = (4.0, 3.5, 4.5)
ORIGIN_MM = np.array([-170.0, -150.0, -120.0])
LIVER = (slice(15, 45), slice(25, 65), slice(20, 60))


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _series(*, prone: bool = False) -> SeriesVolume:
    affine = np.eye(4)
    sign = -1.0 if prone else 1.0
    affine[:3, 0] = [0, 0, SPACING_MM[0]]
    affine[:3, 1] = [0, sign * SPACING_MM[1], 0]
    affine[:3, 2] = [sign * SPACING_MM[2], 0, 0]
    affine[:3, 3] = ORIGIN_MM * [sign, sign, 1]
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = indices @ affine[:3, :3].T + affine[:3, 3]
    return SeriesVolume(
        hu=hu_at(places).astype(np.float32),
        affine=affine,
        spacing_mm=SPACING_MM,
        frame_of_reference_uid="1.2",
        study_date="19920606",
    )


def _liver() -> np.ndarray:
    mask = np.zeros(SHAPE, np.bool_)
    mask[LIVER] = True
    return mask


@pytest.mark.parametrize("prone", [False, True])
def test_a_plane_keeps_its_values_in_their_places(prone: bool) -> None:
    grid = lay_on_grid(_series(prone=prone), {"liver": _liver()}, _imaging())
    shape, spacing = _imaging().grid_shape, _imaging().grid_spacing_mm
    depth, height, width = np.meshgrid(*map(np.arange, shape), indexing="ij")
    steps = np.stack([width, height, depth], axis=-1) * np.array(spacing[::-1])
    expected = hu_at(steps + np.array(grid.origin_mm))
    inside = (slice(2, -2), slice(4, -4), slice(4, -4))
    # Voxels are stored as whole Hounsfield units: half a unit is their rounding.
    difference = np.abs(grid.ct_hu[inside] - expected[inside])
    assert difference.max() <= 0.6


@pytest.mark.parametrize("prone", [False, True])
def test_the_grid_is_centred_on_the_livers_bounding_box(prone: bool) -> None:
    series = _series(prone=prone)
    grid = lay_on_grid(series, {"liver": _liver()}, _imaging())
    middle = [(part.start + part.stop - 1) / 2 for part in LIVER]
    expected = (series.affine @ [*middle, 1.0])[:3]
    half = (np.array(_imaging().grid_shape) - 1) / 2
    half_mm = half * np.array(_imaging().grid_spacing_mm)
    centre = np.array(grid.origin_mm) + half_mm[::-1]
    np.testing.assert_allclose(centre, expected, atol=1e-6)


def test_masks_keep_their_volume_and_overlap() -> None:
    tumour = np.zeros(SHAPE, np.bool_)
    tumour[25:35, 40:50, 35:45] = True
    masks = {"liver": _liver(), "tumour": tumour}
    grid = lay_on_grid(_series(), masks, _imaging())
    voxel_ml = float(np.prod(_imaging().grid_spacing_mm))
    for name, mask in masks.items():
        found = np.count_nonzero(grid.labels & LABEL_BITS[name]) * voxel_ml
        assert found == pytest.approx(mask.sum() * np.prod(SPACING_MM), rel=0.1)
    both = LABEL_BITS["liver"] | LABEL_BITS["tumour"]
    assert (grid.labels[grid.labels & LABEL_BITS["tumour"] > 0] == both).all()


def test_outside_the_series_is_air() -> None:
    series, liver = _series(), np.zeros(SHAPE, np.bool_)
    liver[:2] = True
    grid = lay_on_grid(series, {"liver": liver}, _imaging())
    assert (grid.ct_hu[0] == -1024).all()


def test_a_liver_larger_than_the_grid_is_told() -> None:
    liver = np.ones(SHAPE, np.bool_)
    grid = lay_on_grid(_series(), {"liver": liver}, _imaging())
    field_mm3 = np.prod(_imaging().grid_shape) * np.prod(_imaging().grid_spacing_mm)
    share = field_mm3 / (liver.size * np.prod(SPACING_MM))
    assert grid.liver_share_inside == pytest.approx(share, rel=0.01)


def test_an_empty_liver_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="liver mask is empty"):
        lay_on_grid(_series(), {"liver": np.zeros(SHAPE, np.bool_)}, _imaging())


def test_the_window_is_that_of_the_contract() -> None:
    hu = np.array([95, 125, 50, 1000, -1000], np.int16).reshape(1, 1, 5)
    channels = to_channels(hu, np.zeros((1, 1, 5), np.uint8), _imaging())
    np.testing.assert_allclose(channels[0, 0, 0], [0, 1, -1.5, 3, -3])


def test_each_bit_becomes_its_channel() -> None:
    labels = np.array([0, 1, 2, 4, 7], np.uint8).reshape(1, 1, 5)
    channels = to_channels(np.zeros((1, 1, 5), np.int16), labels, _imaging())
    np.testing.assert_array_equal(
        channels[1:, 0, 0], [[0, 1, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]]
    )
