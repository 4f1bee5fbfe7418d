"""Walking over long vectors in blocks, so that memory does not grow with the sites.

The updates of a round may lie on the disk. Whatever is computed of them is computed for
some coordinates at a time: a block of a vector, or of as many vectors as there are
sites, with fewer coordinates the more they are.

Axes: `value` runs over a vector, `coordinate` over a block of it, `site` over the sites
in the order of their names.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64

from acfnet_core.federation.parameters import FlatParameters

BLOCK_VALUES = 1 << 18
"""Most values of a block, of all sites together: 2 MB in float64."""

Block = Float64[np.ndarray, " coordinate"]
BlockOfSites = Float64[np.ndarray, "site coordinate"]


def blocks_of(num_values: int, *, num_vectors: int = 1) -> Iterator[slice]:
    """Cut a vector's coordinates into blocks.

    Args:
        num_values: Length of the vector.
        num_vectors: How many vectors of this length are held in memory at once.

    Example:
        >>> [block.stop - block.start for block in blocks_of(600_000)]
        [262144, 262144, 75712]
    """
    size = max(1, BLOCK_VALUES // max(1, num_vectors))
    for start in range(0, num_values, size):
        yield slice(start, min(start + size, num_values))


def take_block(vector: FlatParameters, block: slice) -> Block:
    """Return a block of a vector in float64."""
    return vector[block].astype(np.float64)


def stack_block(vectors: Sequence[FlatParameters], block: slice) -> BlockOfSites:
    """Return the same block of several vectors, one row for each, in float64."""
    return np.stack([take_block(vector, block) for vector in vectors])


def norm_of_difference(one: FlatParameters, other: FlatParameters) -> float:
    """Return the Euclidean norm of one vector minus another."""
    squares = (
        np.square(take_block(one, block) - take_block(other, block)).sum()
        for block in blocks_of(one.size)
    )
    return float(np.sqrt(sum(squares)))


def norm_of(vector: FlatParameters) -> float:
    """Return the Euclidean norm of a vector."""
    squares = (
        np.square(take_block(vector, block)).sum() for block in blocks_of(vector.size)
    )
    return float(np.sqrt(sum(squares)))
