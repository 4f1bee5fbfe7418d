"""The model that is sent about, and a site's answer to it; numpy alone.

Every peer's processes use this file: FLARE and plain Flower get a copy of it.
"""

import numpy as np
from numpy.typing import NDArray

NUM_TENSORS = 60
_VALUE_BYTES = 4
_BYTES_OF_MB = 1_000_000


def sixty_tensors(mb: float) -> dict[str, NDArray[np.float32]]:
    """Return float32 tensors of `mb` megabytes together, small ones and large ones."""
    num_values = int(mb * _BYTES_OF_MB) // _VALUE_BYTES
    shares = np.arange(1, NUM_TENSORS + 1)
    ends = (np.cumsum(shares) * num_values // shares.sum()).tolist()
    rng = np.random.default_rng(0)
    starts = [0, *ends[:-1]]
    return {
        f"layer{number:02d}": rng.standard_normal(end - start, dtype=np.float32)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    }


def shift() -> np.float32:
    """Return what a site adds to every value of a round, never twice the same.

    Were only one value another, a peer that knows contents by their hash would have to
    send one piece in place of all.
    """
    return np.float32(np.random.default_rng().uniform(1e-4, 1e-3))
