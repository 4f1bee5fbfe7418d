import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.images.smooth_resampling import resample_smoothly, to_image

SPACING_MM = (2.0, 0.9, 0.8)
OUTSIDE = -1024.0


def grid() -> SimpleITK.Image:
    image = SimpleITK.Image((10, 9, 8), SimpleITK.sitkUInt8)
    image.SetSpacing((4.0, 4.5, 5.0))
    image.SetOrigin((-16.0, -14.0, -20.0))
    return image


def affine(signs: tuple[int, int, int], order: tuple[int, int, int]) -> np.ndarray:
    """Return an affine whose array axes run along `order` of (x, y, z)."""
    matrix = np.zeros((4, 4))
    for index, (sign, place) in enumerate(zip(signs, order, strict=True)):
        matrix[place, index] = sign * SPACING_MM[index]
        matrix[place, 3] = -sign * SPACING_MM[index] * 25
    matrix[3, 3] = 1.0
    return matrix


def by_simpleitk(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Smooth the whole volume along every axis, then interpolate it once."""
    smooth = SimpleITK.Cast(
        to_image(values, matrix, SPACING_MM, (0, 0, 0)), SimpleITK.sitkFloat32
    )
    steps = np.abs(matrix[:3, :3] / np.array(SPACING_MM))
    for axis in range(3):
        new = float(steps[:, 2 - axis] @ np.array(grid().GetSpacing()))
        square = new**2 - smooth.GetSpacing()[axis] ** 2
        if square > 0:
            smooth = SimpleITK.RecursiveGaussian(
                smooth,
                float(np.sqrt(square)) / 2.3548,
                False,
                SimpleITK.RecursiveGaussianImageFilter.ZeroOrder,
                axis,
            )
    placed = SimpleITK.Resample(
        smooth, grid(), SimpleITK.Transform(), SimpleITK.sitkLinear, OUTSIDE
    )
    return np.asarray(SimpleITK.GetArrayFromImage(placed))


@settings(deadline=None, max_examples=12)
@given(
    st.tuples(*[st.sampled_from((-1, 1))] * 3),
    st.permutations([0, 1, 2]),
    st.integers(0, 2**31),
)
def test_the_products_give_what_simpleitk_gives_on_the_whole_volume(
    signs: tuple[int, int, int], order: list[int], seed: int
) -> None:
    values = np.random.default_rng(seed).normal(100, 300, (40, 50, 45))
    matrix = affine(signs, (order[0], order[1], order[2]))
    found = resample_smoothly(
        values, matrix, SPACING_MM, (0, 0, 0), grid(), outside=OUTSIDE
    )
    np.testing.assert_allclose(found, by_simpleitk(values, matrix), atol=0.02)


def test_a_part_of_a_series_lies_where_the_whole_does() -> None:
    values = np.random.default_rng(0).normal(100, 300, (40, 50, 45))
    matrix = affine((1, -1, 1), (2, 1, 0))
    whole = values.copy()
    whole[:4], whole[:, :6], whole[:, :, :3] = OUTSIDE, OUTSIDE, OUTSIDE
    part = values[4:, 6:, 3:]
    found = resample_smoothly(
        part, matrix, SPACING_MM, (4, 6, 3), grid(), outside=OUTSIDE
    )
    expected = resample_smoothly(
        whole, matrix, SPACING_MM, (0, 0, 0), grid(), outside=OUTSIDE
    )
    inside = (slice(3, None), slice(None, -3), slice(3, None))
    assert np.abs(found - expected)[inside].max() < 60
    assert found.shape == (8, 9, 10)


def test_a_constant_stays_what_it_is() -> None:
    values = np.full((60, 80, 80), 37.0)
    matrix = affine((1, 1, 1), (2, 1, 0))
    found = resample_smoothly(
        values, matrix, SPACING_MM, (0, 0, 0), grid(), outside=OUTSIDE
    )
    np.testing.assert_allclose(found[5:, 5:, 5:], 37.0, atol=0.01)


def test_beyond_the_part_is_the_value_outside() -> None:
    values = np.zeros((6, 6, 6))
    matrix = affine((1, 1, 1), (2, 1, 0))
    found = resample_smoothly(
        values, matrix, SPACING_MM, (0, 0, 0), grid(), outside=OUTSIDE
    )
    assert found[-1, -1, -1] == OUTSIDE


@pytest.mark.parametrize("shape", [(2, 50, 45), (40, 3, 45), (1, 50, 45)])
def test_an_axis_of_few_voxels_is_interpolated_alone(
    shape: tuple[int, int, int],
) -> None:
    values = np.random.default_rng(0).normal(100, 300, shape)
    matrix = affine((1, 1, 1), (2, 1, 0))
    found = resample_smoothly(
        values, matrix, SPACING_MM, (0, 0, 0), grid(), outside=OUTSIDE
    )
    assert np.isfinite(found).all()
