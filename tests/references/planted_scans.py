"""Made-up scans on a coarse grid: a noisy liver with lesions at known places.

A lesion is a ball in an ellipsoidal liver, with its tumour mask.

Axes: `depth height width`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acfnet_core.cohort.images.volume import LABEL_BITS

GRID = (8, 32, 32)
SPACING_MM = (12.0, 6.0, 6.0)
LIVER_RADII_MM = (42.0, 84.0, 84.0)
LESION_RADIUS_MM = 18.0
SIZES_MM = (8.0, 17.0, 26.0)
"""Radii of a small, a middle and a large lesion."""
SCAN_MONTHS = (-8.0, -0.5)
"""When serial scans were taken."""
BRIGHT_HU, DARK_HU, NOISE_HU = 60.0, -45.0, 8.0
LIVER_HU, OUTSIDE_HU = 95.0, 60.0


@dataclass(frozen=True, kw_only=True)
class PlantedScan:
    """A scan as it is stored."""

    time_months: float
    ct_hu: np.ndarray
    labels: np.ndarray


def voxel_centres_mm() -> np.ndarray:
    """Return each voxel's place from the grid's centre `[axis depth height width]`."""
    axes = [
        (np.arange(count) - (count - 1) / 2) * spacing
        for count, spacing in zip(GRID, SPACING_MM, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def liver_mask() -> np.ndarray:
    """Return the liver, the same for everybody `[depth height width]`."""
    radii = np.array(LIVER_RADII_MM)[:, None, None, None]
    return np.sum((voxel_centres_mm() / radii) ** 2, axis=0) <= 1


def draw_ball(centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the voxels within a ball `[depth height width]`."""
    offset = voxel_centres_mm() - centre_mm[:, None, None, None]
    return np.sum(offset**2, axis=0) <= radius_mm**2


def place_lesion(generator: np.random.Generator, radius_mm: float) -> np.ndarray:
    """Draw a centre so that a ball of this radius stays in the liver."""
    room = np.array(LIVER_RADII_MM) - radius_mm
    while True:
        direction = generator.uniform(-1.0, 1.0, 3)
        if direction @ direction <= 1:
            return direction * room


def place_two_lesions(
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two balls so far apart that no cell of a risk map touches both."""
    while True:
        one, other = (place_lesion(generator, LESION_RADIUS_MM) for _ in range(2))
        if np.linalg.norm(one - other) > 4 * LESION_RADIUS_MM:
            return draw_ball(one, LESION_RADIUS_MM), draw_ball(other, LESION_RADIUS_MM)


def draw_scan(
    time_months: float,
    lesions: Sequence[tuple[np.ndarray, float]],
    generator: np.random.Generator,
) -> PlantedScan:
    """Draw a noisy liver with lesions, each a mask and its contrast in HU."""
    liver = liver_mask()
    hu = np.where(liver, LIVER_HU, OUTSIDE_HU) + generator.normal(0.0, NOISE_HU, GRID)
    labels = liver * np.uint8(LABEL_BITS["liver"])
    for mask, contrast_hu in lesions:
        hu = hu + contrast_hu * mask
        labels = labels | mask * np.uint8(LABEL_BITS["tumour"])
    return PlantedScan(
        time_months=time_months,
        ct_hu=np.rint(hu).astype(np.int16),
        labels=labels.astype(np.uint8),
    )
