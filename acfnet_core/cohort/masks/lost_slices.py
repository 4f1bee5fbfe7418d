"""A mask on lost slices: its outline goes over from one neighbour to the other.

The mean of the neighbours' signed distances is inside where the mask would be if its
outline moved evenly; a union would make it too large, and one neighbour's own outline
would shift it.

Source: Raya & Udupa 1990, doi:10.1109/42.52980 (shape-based interpolation).
"""

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float32

from acfnet_core.cohort.images.volume import SeriesGeometry


def fill_lost_slices(
    mask: Bool[np.ndarray, "slice row column"], series: SeriesGeometry
) -> Bool[np.ndarray, "slice row column"]:
    """Return the mask with its lost slices interpolated.

    A lost slice on which the mask was drawn, before the slice was lost, is left alone.
    """
    empty = [slot for slot in series.lost_slices if not mask[slot].any()]
    between = [slot for slot in empty if mask[slot - 1].any() and mask[slot + 1].any()]
    if not between:
        return mask
    filled = mask.copy()
    for slot in between:
        below, above = (_depth(mask[slot + side], series) for side in (-1, 1))
        filled[slot] = below + above >= 0
    return filled


def _depth(
    mask: Bool[np.ndarray, "row column"], series: SeriesGeometry
) -> Float32[np.ndarray, "row column"]:
    """Return the distance to the outline in mm: inside positive, 0 on its voxels."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(series.spacing_mm[:0:-1])
    distance = SimpleITK.SignedMaurerDistanceMap(
        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    return SimpleITK.GetArrayFromImage(distance)
