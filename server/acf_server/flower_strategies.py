"""Flower's own strategies, given one block of coordinates after the other.

FedAvgM, FedAdam, FedYogi and FedAdagrad get our capped weighted mean as the single
reply of a round and take the server's step from it; FedMedian and FedTrimmedAvg get the
blocks of all sites. All of them work on each coordinate by itself, so blocks change
nothing but the memory. Their classes are made anew for each block: what they remember
is set from the run's state and taken back into it. What enters is float64 and finite,
what leaves is rounded to float32 once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
)

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing, in_order, mean_of_block
from acfnet_core.federation.blocks import Block, take_block
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.federation.strategies.robust_counts import num_trimmed_sites
from acfnet_core.federation.strategies.strategy import require_finite, step_in_blocks

MOMENTUM = "momentum"
FIRST_MOMENT = "m_t"
SECOND_MOMENT = "v_t"
"""Names of what is remembered; of the length of the parameters each."""

_VALUES = "values"
_WEIGHT = "num-examples"


@dataclass(frozen=True, kw_only=True)
class FlowerMomentum:
    """Moves the model by a momentum of the sites' mean update (FedAvgM).

    Source: Hsu et al. 2019, arXiv 1909.06335, section 3.3, as Flower has it: the
    momentum begins as the first round's update.

    Args:
        weighing: What the sites weigh in the mean.
        learning_rate: Of the server; with 1 and no momentum it is FedAvg.
        momentum: Share of the momentum that stays each round, 0 to less than 1.
    """

    weighing: Weighing
    learning_rate: float
    momentum: float

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the next global parameters; remember the momentum.

        Raises:
            ProtocolError: The result is not finite (`protocol.run_failed`).
        """
        ordered = in_order(updates)
        shares = self.weighing.shares(ordered)

        def step(
            block: slice, before: Block, known: Mapping[str, Block]
        ) -> tuple[Block, Mapping[str, Block]]:
            rule = FedAvgM(
                server_learning_rate=self.learning_rate, server_momentum=self.momentum
            )
            rule.current_arrays = _record(before)
            if MOMENTUM in known:
                rule.momentum_vector = [known[MOMENTUM]]
            mean = mean_of_block(ordered, shares, block)
            values = _aggregate(rule, round_number, [mean])
            if rule.momentum_vector is None:
                return values, {}
            return values, {MOMENTUM: rule.momentum_vector[0]}

        names = [MOMENTUM] if self.momentum else []
        new, kept = step_in_blocks(base, state, names, step)
        _require_finite(new, kept, "fedavgm", round_number)
        return new, kept


@dataclass(frozen=True, kw_only=True)
class FlowerAdaptive:
    """Moves the model by the sites' mean update, each coordinate at its own rate.

    FedAdam, FedYogi and FedAdagrad. Source: Reddi et al. 2020, arXiv 2003.00295,
    algorithm 2, as Flower has it: FedAdam also corrects its rate for the moments'
    beginning at zero (Kingma & Ba 2014, arXiv 1412.6980, section 2), counting from 2.

    Args:
        name: Which of the three.
        weighing: What the sites weigh in the mean.
        learning_rate: Of the server, eta.
        tau: Updates much smaller than this are not made larger.
        beta_1: Share of the mean update's moving average that stays; not of FedAdagrad.
        beta_2: The same of its square's.
    """

    name: Literal["fedadam", "fedyogi", "fedadagrad"]
    weighing: Weighing
    learning_rate: float
    tau: float
    beta_1: float = 0.9
    beta_2: float = 0.99

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the next global parameters; remember the two moments.

        Raises:
            ProtocolError: The result is not finite (`protocol.run_failed`).
        """
        ordered = in_order(updates)
        shares = self.weighing.shares(ordered)

        def step(
            block: slice, before: Block, known: Mapping[str, Block]
        ) -> tuple[Block, Mapping[str, Block]]:
            rule = self._make()
            rule.current_arrays = {_VALUES: before}
            if known:
                rule.m_t = {_VALUES: known[FIRST_MOMENT]}
                rule.v_t = {_VALUES: known[SECOND_MOMENT]}
            mean = mean_of_block(ordered, shares, block)
            values = _aggregate(rule, round_number, [mean])
            first, second = rule.m_t or {}, rule.v_t or {}
            return values, {
                FIRST_MOMENT: first[_VALUES],
                SECOND_MOMENT: second[_VALUES],
            }

        names = [FIRST_MOMENT, SECOND_MOMENT]
        new, kept = step_in_blocks(base, state, names, step)
        _require_finite(new, kept, self.name, round_number)
        return new, kept

    def _make(self) -> FedAdam | FedYogi | FedAdagrad:
        """Make Flower's strategy."""
        if self.name == "fedadagrad":
            return FedAdagrad(eta=self.learning_rate, tau=self.tau)
        return (FedAdam if self.name == "fedadam" else FedYogi)(
            eta=self.learning_rate,
            tau=self.tau,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
        )


@dataclass(frozen=True)
class FlowerMedian:
    """Takes the median of the sites at each coordinate; every site counts the same.

    Source: Yin et al. 2018, arXiv 1803.01498, option I; Flower's FedMedian.
    """

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the medians; nothing is remembered."""
        del state
        return _in_blocks(FedMedian, updates, base, round_number), {}


@dataclass(frozen=True)
class FlowerTrimmedMean:
    """Takes the mean of the sites at each coordinate without the outermost ones.

    Source: Yin et al. 2018, arXiv 1803.01498, option II; Flower's FedTrimmedAvg.

    Args:
        trimmed_share: Of the sites, left out at either end; below 0.5.
    """

    trimmed_share: float

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the trimmed means; nothing is remembered.

        Raises:
            ValueError: The share of so few sites is nobody.
        """
        del state
        num_sites = len(updates)
        num_trimmed = num_trimmed_sites(self.trimmed_share, num_sites)
        if num_trimmed < 1:
            raise ValueError(
                f"trimmed_share {self.trimmed_share:g} of {num_sites} sites is nobody"
            )
        # Flower rounds its share down; a quarter of a site keeps it from one too few.
        beta = (num_trimmed + 0.25) / num_sites
        rule = _trimming(beta)
        return _in_blocks(rule, updates, base, round_number), {}


def _trimming(beta: float) -> Callable[[], FedAvg]:
    return lambda: FedTrimmedAvg(beta=beta)


def _in_blocks(
    make: Callable[[], FedAvg],
    updates: Sequence[AdmittedUpdate],
    base: FlatParameters,
    round_number: int,
) -> FlatParameters:
    """Give Flower's strategy the same block of every site, one after the other."""
    ordered = in_order(updates)

    def step(
        block: slice, before: Block, known: Mapping[str, Block]
    ) -> tuple[Block, Mapping[str, Block]]:
        del before
        rows = [take_block(update.parameters, block) for update in ordered]
        return _aggregate(make(), round_number, rows), known

    new, _ = step_in_blocks(base, {}, [], step, num_vectors=len(ordered))
    return new


@dataclass(frozen=True)
class _Reply:
    """What a strategy reads of a Message, which only a task of Flower's can make."""

    content: RecordDict

    def has_error(self) -> bool:
        """Return whether there is an error in place of the content."""
        return False


def _aggregate(rule: FedAvg, round_number: int, rows: Sequence[Block]) -> Block:
    """Have Flower's strategy aggregate replies of these values, of equal weight."""
    replies = [
        _Reply(
            RecordDict({"arrays": _record(row), "metrics": MetricRecord({_WEIGHT: 1})})
        )
        for row in rows
    ]
    with _without_chatter():
        arrays, _ = rule.aggregate_train(round_number, cast(list[Message], replies))
    if arrays is None:
        raise ValueError("Flower's strategy gave no arrays")
    return arrays[_VALUES].numpy()


def _record(values: Block) -> ArrayRecord:
    return ArrayRecord({_VALUES: Array(values)})


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep Flower from logging every block as if it were a round."""
    flower = logging.getLogger("flwr")
    before = flower.level
    flower.setLevel(logging.WARNING)
    try:
        yield
    finally:
        flower.setLevel(before)


def _require_finite(
    new: FlatParameters, kept: NamedArrays, strategy: str, round_number: int
) -> None:
    vectors = [new, *(np.asarray(kept[name]) for name in sorted(kept))]
    require_finite(vectors, strategy=strategy, round_number=round_number)
