"""Turning a series of any direction to what a radiologist expects to see.

Axes: `slice row column` as a series has them; `depth height width` as they are shown:
depth from the feet to the head, height from anterior down to posterior, width from the
patient's right to the left. So anterior is up, and the patient's right is on the left.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class AxialView:
    """How the axes of a series' arrays are turned for the picture.

    Attributes:
        order: Which of the last three axes becomes depth, height and width.
        is_flipped: Whether depth, height and width then run backwards.
        spacing_mm: Between voxel centres along depth, height and width.
    """

    order: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]

    def turn(self, volume: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """Return a view of a `[... slice row column]` array in the picture's axes."""
        first = volume.ndim - 3
        order = [*range(first), *(first + axis for axis in self.order)]
        flipped = [first + axis for axis in range(3) if self.is_flipped[axis]]
        return np.flip(volume.transpose(order), axis=tuple(flipped))


def view_axially(affine: NDArray[np.float64]) -> AxialView:
    """Return how a series is turned so that its slices are seen axially from the feet.

    The series' axes are given to those of the patient so that their directions agree
    best in all; of an oblique series the picture is oblique too.

    Args:
        affine: `[4 4]`, from (slice, row, column) to patient space in mm: x to the
            patient's left, y to the back, z to the head.
    """
    steps = np.asarray(affine, dtype=np.float64)[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    cosines = np.abs(steps / spacing)
    x, y, z = max(
        permutations(range(3)),
        key=lambda order: float(cosines[range(3), order].sum()),
    )
    return AxialView(
        order=(z, y, x),
        is_flipped=(
            bool(steps[2, z] < 0),
            bool(steps[1, y] < 0),
            bool(steps[0, x] < 0),
        ),
        spacing_mm=(float(spacing[z]), float(spacing[y]), float(spacing[x])),
    )
