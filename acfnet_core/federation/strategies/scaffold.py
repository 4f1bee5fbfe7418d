"""SCAFFOLD at the server: the sites' mean, and the control variate that steers them.

A message carries two vectors as one: the request [parameters | c], a reply
[parameters | change of c_i]. What a site does is in acfnet_core/training/site_work.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import in_order, mean_of_block
from acfnet_core.federation.blocks import Block, take_block
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.federation.strategies.site_rounds import note_rounds
from acfnet_core.federation.strategies.strategy import (
    require_finite,
    require_length,
    step_in_blocks,
)

CONTROL = "control"
"""Name of c in the strategy's state."""

TwoVectors = Float32[np.ndarray, " both"]
"""Two vectors of one length, the one behind the other."""


@dataclass(frozen=True, kw_only=True)
class Scaffold:
    """Moves the model towards the sites' mean, and c by what their c_i changed.

    `x <- x + server_learning_rate / |S| sum(y_i - x)` and `c <- c + 1 / N sum(dc_i)`,
    over the sites S of the round, of N in all. Every site weighs the same: c is the
    mean of the c_i, and only so do the corrections c - c_i of all sites cancel.

    Source: Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, lines 16 and 17.

    Args:
        num_sites: N, of the whole roster.
        server_learning_rate: 1 takes the mean itself.
    """

    num_sites: int
    server_learning_rate: float = 1.0

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the next global parameters; remember c and who changed it when.

        Raises:
            ProtocolError: The result is not finite (`protocol.run_failed`).
            ValueError: An update is not two vectors of the length of `base`.
        """
        ordered = in_order(updates)
        require_length(ordered[0].parameters, 2 * base.size, name="the update")
        shares = [1.0 / len(ordered)] * len(ordered)
        of_all = len(ordered) / self.num_sites

        def step(
            block: slice, before: Block, known: Mapping[str, Block]
        ) -> tuple[Block, Mapping[str, Block]]:
            mean = mean_of_block(ordered, shares, block)
            second = slice(base.size + block.start, base.size + block.stop)
            change = of_all * mean_of_block(ordered, shares, second)
            control = known.get(CONTROL, np.zeros_like(change)) + change
            if self.server_learning_rate == 1.0:
                return mean, {CONTROL: control}
            moved = before + self.server_learning_rate * (mean - before)
            return moved, {CONTROL: control}

        new, kept = step_in_blocks(base, state, [CONTROL], step)
        require_finite(
            [new, kept[CONTROL]], strategy="scaffold", round_number=round_number
        )
        return new, {**note_rounds(state, ordered, round_number), **kept}


def with_control(base: FlatParameters, state: NamedArrays) -> TwoVectors:
    """Return what a round's request carries: [parameters | c], c being 0 at first."""
    control = state.get(CONTROL)
    if control is None:
        control = np.zeros_like(base)
    require_length(control, base.size, name=CONTROL)
    return np.concatenate([base, control])


def halves(vector: TwoVectors) -> tuple[FlatParameters, FlatParameters]:
    """Cut [parameters | control] into its two.

    Raises:
        ValueError: The length is odd.
    """
    half, rest = divmod(vector.size, 2)
    if rest:
        raise ValueError(f"{vector.size} values cannot be two vectors of one length")
    return vector[:half], vector[half:]


def correction_of(control: FlatParameters, own: FlatParameters) -> FlatParameters:
    """Return what a site adds to each gradient: `c - c_i`."""
    return (take_block(control, slice(0, control.size)) - own).astype(np.float32)


def next_control(
    own: FlatParameters,
    control: FlatParameters,
    *,
    start: FlatParameters,
    end: FlatParameters,
    learning_rates: float,
) -> FlatParameters:
    """Return a site's next control variate, `c_i - c + (x - y) / (K lr)`.

    It is the mean of the site's own gradients over its steps, each weighed by its
    learning rate: the step k is `lr_k (g_k + c - c_i)`, so they add up to x - y.

    Source: Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, line 12, option II.
    Ours: the sum of the learning rates in place of K lr, for a rate that changes.

    Args:
        own: c_i as it was.
        control: c of this round.
        start: x, the parameters that the site was sent.
        end: y, what its steps made of them.
        learning_rates: The sum over its steps; 0 where no step was kept, and then c_i
            stays as it is.

    Example:
        >>> x, y = np.float32([1.0, 1.0]), np.float32([0.5, 2.0])
        >>> c_i, c = np.float32([0.0, 1.0]), np.float32([0.25, 0.0])
        >>> next_control(c_i, c, start=x, end=y, learning_rates=0.5).tolist()
        [0.75, -1.0]
    """
    if learning_rates == 0.0:
        return own.copy()
    everything = slice(0, own.size)
    moved = take_block(start, everything) - end
    return (take_block(own, everything) - control + moved / learning_rates).astype(
        np.float32
    )
