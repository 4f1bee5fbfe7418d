"""Any figure as a bootstrap statistic: slow, one resample at a time."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from acfnet_core.evaluation.bootstrap import Statistic


def statistic_of_rows(
    function: Callable[[Int[np.ndarray, " row"]], float | None],
) -> Statistic:
    """Make a figure of a function of patients' row numbers, repeated as drawn."""

    def evaluate(counts: Float[np.ndarray, "resample patient"]) -> np.ndarray:
        rows = np.arange(counts.shape[1])
        figures = (function(np.repeat(rows, one.astype(np.int64))) for one in counts)
        return np.array([np.nan if one is None else one for one in figures])

    return evaluate
