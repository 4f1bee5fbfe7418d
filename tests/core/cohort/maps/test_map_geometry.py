import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.map_density import mean_density_in_voxel
from scipy.spatial.transform import Rotation

from acfnet_core.cohort.images.volume import SeriesVolume
from acfnet_core.cohort.maps.map_geometry import lay_on_series

GRID_SHAPE = (8, 12, 10)
GRID_SPACING_MM = (6.0, 5.0, 4.0)
SIZE_MM = np.array(GRID_SHAPE) * GRID_SPACING_MM
ORIGIN_MM = (-18.0, -27.5, -21.0)
"""The grid's field is centred on the origin of patient space."""
TOLERANCE = 0.01
"""Of the sum of the map's absolute values, as `lay_on_series` states."""

Map = npt.NDArray[np.float32]


def _series(
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.8),
    *,
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    flip: tuple[int, int, int] = (1, 1, 1),
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    size_mm: tuple[float, float, float] = (80.0, 80.0, 80.0),
) -> SeriesVolume:
    """Return a series of `size_mm` or a little more, centred on `shift_mm`."""
    shape = tuple(
        int(np.ceil(size / own - 1e-9))
        for size, own in zip(size_mm, spacing_mm, strict=True)
    )
    axes = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]) * flip
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes * spacing_mm
    affine[:3, 3] = shift_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return SeriesVolume(
        hu=np.zeros(shape, np.int16),
        affine=affine,
        spacing_mm=spacing_mm,
        frame_of_reference_uid="1.2",
        study_date="19920606",
    )


def _lay(values: Map, series: SeriesVolume) -> Map:
    return lay_on_series(
        values, origin_mm=ORIGIN_MM, spacing_mm=GRID_SPACING_MM, series=series
    )


def _integral(density: Map, series: SeriesVolume) -> float:
    volume_ml = float(np.prod(series.spacing_mm)) / 1000
    return float(density.sum(dtype=np.float64)) * volume_ml


def _noise(seed: int = 0, num_years: int = 1) -> Map:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(num_years, *GRID_SHAPE)).astype(np.float32)


def _one_voxel(index: tuple[int, int, int]) -> Map:
    values = np.zeros((1, *GRID_SHAPE), np.float32)
    values[(0, *index)] = 1.0
    return values


SERIES = {
    "fine": _series((1.0, 0.6, 0.6), shift_mm=(0.3, 0.2, 0.1)),
    "thick slices": _series((7.5, 0.8, 0.8), shift_mm=(0.3, 0.2, 1.1)),
    "slices thicker than any": _series((10.0, 0.8, 0.8), shift_mm=(1.3, 0.2, 2.1)),
    "uneven pixels": _series((5.0, 0.98, 0.7), shift_mm=(0.1, 0.4, 1.7)),
    "flipped": _series(flip=(-1, -1, 1), shift_mm=(0.1, 0.4, 1.7)),
    "oblique": _series(angles=(12, -20, 30), size_mm=(110, 110, 110)),
    "oblique and thick": _series(
        (6.0, 0.9, 0.9), angles=(8, 15, -25), size_mm=(110, 110, 110)
    ),
    "coarser than the grid": _series((9.0, 8.0, 7.0), shift_mm=(1.0, 2.0, 3.0)),
    "no larger than the grid": _series(
        (3.0, 2.5, 2.0), size_mm=(SIZE_MM[0], SIZE_MM[1], SIZE_MM[2])
    ),
}
MAPS = {
    "noise": _noise(),
    "even": np.ones((1, *GRID_SHAPE), np.float32),
    "an inner voxel": _one_voxel((4, 5, 6)),
    "a corner": _one_voxel((0, 0, 0)),
    "the opposite corner": _one_voxel((7, 11, 9)),
}


@pytest.mark.parametrize("which_map", MAPS)
@pytest.mark.parametrize("which_series", SERIES)
def test_the_densitys_integral_is_the_maps_sum(
    which_series: str, which_map: str
) -> None:
    values, series = MAPS[which_map], SERIES[which_series]
    integral = _integral(_lay(values, series), series)
    off = abs(integral - float(values.sum(dtype=np.float64)))
    assert off <= TOLERANCE * float(np.abs(values).sum())


@settings(deadline=None, max_examples=15)
@given(
    spacing_mm=st.tuples(st.floats(1.0, 9.0), st.floats(0.9, 3.0), st.floats(0.9, 3.0)),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    flip=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    seed=st.integers(0, 99),
)
def test_no_orientation_loses_or_makes_logit(
    spacing_mm: tuple[float, float, float],
    angles: tuple[float, float, float],
    flip: tuple[int, int, int],
    seed: int,
) -> None:
    series = _series(spacing_mm, angles=angles, flip=flip, size_mm=(120, 120, 120))
    values = _noise(seed)
    off = abs(_integral(_lay(values, series), series) - float(values.sum()))
    assert off <= TOLERANCE * float(np.abs(values).sum())


@pytest.mark.parametrize("which", ["uneven pixels", "flipped", "oblique and thick"])
def test_values_are_those_of_the_slow_reference(which: str) -> None:
    series, values = SERIES[which], _noise(3)
    density = _lay(values, series)[0]
    generator = np.random.default_rng(1)
    # The reference has no soft border: voxels that the border cuts are left out.
    inner = _lay(np.ones_like(values), series)[0] >= (1 - 1e-5) / 0.12
    candidates = np.argwhere(inner)
    for index in generator.choice(candidates, 12, replace=False):
        expected = mean_density_in_voxel(
            tuple(index), series.affine, values[0], ORIGIN_MM, GRID_SPACING_MM
        )
        # The noise has a standard deviation of 8.3 per ml, and kinks at the centres.
        assert density[tuple(index)] == pytest.approx(expected, abs=0.5)


def test_at_a_grids_voxel_centre_the_density_is_value_per_volume() -> None:
    series = _series((0.6, 0.5, 0.4), size_mm=(SIZE_MM[0], SIZE_MM[1], SIZE_MM[2]))
    values = np.zeros((1, *GRID_SHAPE), np.float32)
    values[:, 2:6, 3:8, 3:8] = 0.6
    density = _lay(values, series)[0]
    # 6 x 5 x 4 mm is 0.12 ml.
    assert density[40, 55, 55] == pytest.approx(0.6 / 0.12, rel=1e-5)


def test_outside_the_grid_the_density_is_zero() -> None:
    series = SERIES["uneven pixels"]
    density = _lay(np.ones((1, *GRID_SHAPE), np.float32), series)[0]
    places = np.argwhere(density) @ series.affine[:3, :3].T + series.affine[:3, 3]
    beyond_mm = np.abs(places) - SIZE_MM[::-1] / 2
    # A voxel that has a part inside may have its centre outside.
    assert (beyond_mm <= np.array(series.spacing_mm)[::-1] / 2).all()


def test_a_series_elsewhere_gets_nothing() -> None:
    assert not _lay(_noise(), _series(shift_mm=(0, 0, 900))).any()


def test_what_lies_outside_the_series_is_lost_and_no_more() -> None:
    # The lower half of the grid, cut at its middle plane.
    half_mm = (SIZE_MM[0] / 2, SIZE_MM[1], SIZE_MM[2])
    series = _series((3.0, 2.5, 2.0), shift_mm=(0, 0, -12.0), size_mm=half_mm)
    values = np.ones((1, *GRID_SHAPE), np.float32)
    assert _integral(_lay(values, series), series) == pytest.approx(480, rel=1e-5)


def test_years_do_not_mix() -> None:
    values, series = _noise(5, num_years=3), SERIES["uneven pixels"]
    together = _lay(values, series)
    alone = _lay(values[1:2], series)
    np.testing.assert_array_equal(together[1:2], alone)


def test_a_spacing_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        lay_on_series(
            _noise(),
            origin_mm=ORIGIN_MM,
            spacing_mm=(0.0, 1.0, 1.0),
            series=SERIES["fine"],
        )
