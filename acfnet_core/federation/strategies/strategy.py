"""What every strategy is: arithmetic on the updates of a round, and nothing else.

A strategy holds its settings alone. What it must remember from round to round, such as
a momentum, it is given and gives back, so that a run which is taken up again goes on
with the same bits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.blocks import Block, blocks_of, take_block
from acfnet_core.federation.parameters import FlatParameters, NamedArrays

BlockStep = Callable[
    [slice, Block, Mapping[str, Block]], tuple[Block, Mapping[str, Block]]
]
"""From a block, the global parameters there and what is remembered of them, to the next
parameters and what is to be remembered; all in float64."""


@runtime_checkable
class Strategy(Protocol):
    """How the sites' updates become the next global model."""

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the next global parameters, and what to remember.

        The result does not depend on the order of the updates, and memory not on their
        number.

        Args:
            updates: Of this round, one for each site; their parameters may lie on the
                disk.
            base: The global parameters that the sites started from.
            state: What was given back after the round before; empty in the first.
            round_number: From 1.

        Raises:
            ProtocolError: The result is not finite (`protocol.run_failed`).
        """


def step_in_blocks(
    base: FlatParameters,
    state: NamedArrays,
    names: Sequence[str],
    step: BlockStep,
    *,
    num_vectors: int = 1,
) -> tuple[FlatParameters, dict[str, FlatParameters]]:
    """Take a step of the global parameters, one block after the other.

    Args:
        base: The global parameters.
        state: What is remembered; names that are not in it are new.
        names: What will be remembered, each as long as `base`.
        step: What to do with a block.
        num_vectors: How many vectors `step` holds in memory at once.

    Returns:
        The next parameters and what to remember, rounded to float32.

    Raises:
        ValueError: Something remembered has another length than `base`.
    """
    known = [name for name in names if name in state]
    for name in known:
        require_length(state[name], base.size, name=name)
    new = np.empty(base.size, dtype=np.float32)
    kept = {name: np.empty(base.size, dtype=np.float32) for name in names}
    # What overflows becomes infinite and is refused as a whole by `require_finite`.
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks_of(base.size, num_vectors=num_vectors):
            before = {name: take_block(state[name], block) for name in known}
            values, after = step(block, take_block(base, block), before)
            new[block] = values
            for name in names:
                kept[name][block] = after[name]
    return new, kept


def require_length(vector: FlatParameters, num_values: int, *, name: str) -> None:
    """Refuse a vector of another length.

    Raises:
        ValueError: Its length is not `num_values`.
    """
    if vector.shape != (num_values,):
        raise ValueError(f"{name} has {vector.size} values; expected {num_values}")


def require_finite(
    vectors: Sequence[FlatParameters], *, strategy: str, round_number: int
) -> None:
    """Refuse a result that is not finite.

    Raises:
        ProtocolError: `protocol.run_failed`.
    """
    if all(np.isfinite(vector).all() for vector in vectors):
        return
    raise ProtocolError(
        "protocol.run_failed",
        f"Round {round_number}: strategy {strategy} gave values that are not finite; "
        "the model of the round before is kept.",
        remedy="Start a new run with a lower server_learning_rate or learning_rate.",
    )
