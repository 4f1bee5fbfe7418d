"""Everything around the liver of a made-up abdomen, painted from back to front.

Axis legend: slice row column = z y x.
"""

import numpy as np
from jaxtyping import Bool, Float

from acfnet_core.cohort.synthetic.anatomy import Point
from acfnet_core.cohort.synthetic.grid import VoxelGrid, smooth_noise

ORGANS: tuple[tuple[Point, Point, float], ...] = (
    ((20.0, -42.0, 92.0), (52.0, 40.0, 40.0), 130.0),  # heart
    ((70.0, -22.0, -4.0), (38.0, 36.0, 46.0), 28.0),  # stomach
    ((72.0, -44.0, -4.0), (24.0, 12.0, 32.0), -850.0),  # gas in the stomach
    ((92.0, 30.0, 18.0), (24.0, 40.0, 46.0), 118.0),  # spleen
    ((60.0, 46.0, -58.0), (25.0, 25.0, 46.0), 165.0),  # left kidney
    ((-58.0, 50.0, -76.0), (24.0, 25.0, 36.0), 165.0),  # right kidney
    ((-14.0, 36.0, 0.0), (13.0, 10.0, 400.0), 140.0),  # inferior vena cava
    ((10.0, 32.0, 0.0), (11.0, 11.0, 400.0), 170.0),  # aorta
)
"""Centre, half axes and HU; a later one is painted over an earlier one."""


def paint_abdomen(
    grid: VoxelGrid, body_mass_index: float, rng: np.random.Generator
) -> Float[np.ndarray, "slice row column"]:
    """Paint everything but the liver."""
    fat_mm = 8.0 + 0.35 * (body_mass_index - 17.0)
    skin = _ellipse_level(grid, 148.0, 106.0)
    muscle = _ellipse_level(grid, 148.0 - fat_mm, 106.0 - fat_mm)
    cavity = _ellipse_level(grid, 136.0 - fat_mm, 95.0 - fat_mm)
    section = np.full(grid.shape[1:], -1000.0, dtype=np.float32)
    section[skin < 1] = -105.0
    section[muscle < 1] = 55.0
    section[cavity < 1] = -85.0
    hu = np.repeat(section[None], grid.shape[0], axis=0)
    is_cavity = cavity < 1
    bowel = smooth_noise(rng, grid.shape, 13.0, grid.spacing_mm) > -0.3
    hu[bowel & is_cavity] = 38.0
    _paint_ribs(hu, grid, (muscle < 1) & ~is_cavity)
    _paint_lungs(hu, grid, is_cavity)
    for centre, half_axes, value in ORGANS:
        box, radius = grid.ellipsoid(centre, half_axes)
        hu[box][radius < 1] = value
    _paint_spine(hu, grid)
    return hu


def _paint_ribs(
    hu: Float[np.ndarray, "slice row column"],
    grid: VoxelGrid,
    is_wall: Bool[np.ndarray, "row column"],
) -> None:
    """Paint ribs into the muscle wall; they run down from the spine to the front."""
    rows, columns = np.nonzero(is_wall)
    angle = np.abs(np.arctan2(grid.x[columns], grid.y[rows, 0]))
    phase = 2 * np.pi * grid.z[:, 0] / 30.0 + 5.0 * angle
    is_rib = (np.cos(phase) > 0.55) & (angle < 2.4) & (angle > 0.35)
    painted = hu[:, rows, columns]
    painted[is_rib] = 330.0
    hu[:, rows, columns] = painted


def _paint_lungs(
    hu: Float[np.ndarray, "slice row column"],
    grid: VoxelGrid,
    is_cavity: Bool[np.ndarray, "row column"],
) -> None:
    """Paint the lungs above a domed diaphragm; they reach lowest near the wall."""
    relative = ((grid.x + 10.0) / 118.0) ** 2 + ((grid.y - 4.0) / 82.0) ** 2
    diaphragm_mm = 72.0 - 44.0 * relative
    is_lung = (grid.z > diaphragm_mm) & is_cavity
    hu[is_lung] = -840.0


def _paint_spine(hu: Float[np.ndarray, "slice row column"], grid: VoxelGrid) -> None:
    """Paint vertebrae with cortex, the canal behind them and the spinous processes."""
    body, radius = grid.ellipsoid((0.0, 62.0, 0.0), (21.0, 17.0, 1e3))
    hu[body][radius < 1] = 330.0
    hu[body][radius < 0.74] = 190.0
    process, radius = grid.ellipsoid((0.0, 88.0, 0.0), (6.0, 14.0, 1e3))
    hu[process][radius < 1] = 320.0
    canal, radius = grid.ellipsoid((0.0, 81.0, 0.0), (9.0, 8.0, 1e3))
    hu[canal][radius < 1] = 35.0
    is_disc = np.cos(2 * np.pi * grid.z[:, 0, 0] / 36.0) > 0.93
    disc, radius = grid.ellipsoid((0.0, 62.0, 0.0), (21.0, 17.0, 1e3))
    hu[disc][(radius < 1) & is_disc[:, None, None]] = 95.0


def _ellipse_level(
    grid: VoxelGrid, half_width_mm: float, half_height_mm: float
) -> Float[np.ndarray, "row column"]:
    """Return the squared relative radius of an ellipse in every slice."""
    level: Float[np.ndarray, "row column"] = (grid.x / half_width_mm) ** 2 + (
        grid.y / half_height_mm
    ) ** 2
    return level
