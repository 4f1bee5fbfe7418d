"""The values of a contract's features, back in the units that people know.

Axes: `row` patients, in the order given.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from acfnet_core.cohort.contract import ClinicalColumn, DataContract
from acfnet_core.cohort.table.clinical_table import TableRow


def feature_values(
    rows: Sequence[TableRow], contract: DataContract
) -> dict[str, Float[np.ndarray, " row"]]:
    """Return each feature's values, in the contract's order.

    Returns:
        Numbers in the column's unit; of a binary or category column the position of
        its code. NaN where missing, or faulty.
    """
    width = contract.num_clinical_features
    inputs = np.array([row.clinical for row in rows], np.float64).reshape(-1, width)
    known = np.array([row.clinical_mask for row in rows], np.bool_).reshape(-1, width)
    values: dict[str, Float[np.ndarray, " row"]] = {}
    first = 0
    for name in contract.features:
        column = contract.columns[name]
        part = inputs[:, first : first + column.num_inputs]
        numbers = _undo(column, part)
        values[name] = np.where(known[:, first], numbers, np.nan)
        first += column.num_inputs
    return values


def _undo(
    column: ClinicalColumn, inputs: Float[np.ndarray, "row input"]
) -> Float[np.ndarray, " row"]:
    """Turn model inputs back to what the table says."""
    if column.type == "category":
        return np.argmax(inputs, axis=1).astype(np.float64)
    constants = column.standardise
    numbers = inputs[:, 0] * constants.standard_deviation + constants.mean
    plain = np.expm1(numbers) if constants.transform == "log1p" else numbers
    # Inputs are float32: without rounding, 0 comes back as -3e-08.
    return np.array([float(f"{number:.6g}") + 0.0 for number in np.round(plain, 5)])
