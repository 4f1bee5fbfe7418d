"""A site's part of the run's strategy: where it starts, what it changes, what it sends.

    plain, fedprox   from the global parameters; sends its own
    scaffold         the same, with control variates: sends [parameters | change of c_i]
    local_only       from its own last parameters; sends none

What the site must remember is written before the answer is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import LocalRule, RoundRequest
from acfnet_core.federation.parameters import (
    FlatParameters,
    ParameterLayout,
    unflatten,
)
from acfnet_core.federation.strategies.scaffold import (
    correction_of,
    halves,
    next_control,
)
from acfnet_core.training.gradient_change import GradientChange
from acfnet_core.training.site_state import SiteState


@dataclass(frozen=True, kw_only=True)
class FinishedWork:
    """What training left.

    Attributes:
        parameters: y, those that are left in the model.
        learning_rates: The sum over the steps that led to them.
    """

    parameters: FlatParameters
    learning_rates: float


Send = Callable[[FinishedWork], FlatParameters | None]


@dataclass(frozen=True, kw_only=True)
class SiteWork:
    """What a request's strategy asks of the site.

    Attributes:
        start: The parameters to judge and to train further.
        change: What is done to each gradient.
        send: From what training left to what leaves the site; None if nothing does.
    """

    start: FlatParameters
    change: GradientChange
    send: Send


def begin_work(
    request: RoundRequest,
    base: FlatParameters,
    layout: ParameterLayout,
    *,
    site: str,
    runs_folder: Path | None,
) -> SiteWork:
    """Return what a request's strategy asks of the site.

    Args:
        request: The server's request.
        base: What came with it; as long as the layout, or twice as long.
        layout: Of the model.
        site: This site's name.
        runs_folder: Where the site keeps a folder for each run; only some strategies
            need it.

    Raises:
        DataError: What the site remembers of the run is damaged (`data.store_damaged`).
        ProtocolError: It is asked to go on from a round that is yet to come
            (`protocol.malformed`).
        ValueError: There is no folder and the strategy needs one.
    """
    return _RULES[request.local_strategy.name](
        request, base, layout, _Memory(request, site, runs_folder)
    )


@dataclass(frozen=True)
class _Memory:
    """What the site remembers, seen from one request."""

    request: RoundRequest
    site: str
    runs_folder: Path | None

    def state(self) -> SiteState:
        """Return the run's states at this site."""
        if self.runs_folder is None:
            name = self.request.local_strategy.name
            raise ValueError(f"{name} needs a folder for what the site remembers")
        return SiteState(self.runs_folder / self.request.run)

    def last_round(self) -> int:
        """Return the last round in which the site's answer was taken; 0 is none."""
        last = self.request.local_strategy.last_rounds.get(self.site, 0)
        if last >= self.request.round:
            raise ProtocolError(
                "protocol.malformed",
                f"Round {self.request.round} is to go on from round {last}.",
                remedy="Ask the coordinator to look at the run's checkpoints.",
            )
        return last

    def load(self, *, length: int) -> FlatParameters | None:
        """Return what counts for this request; None in the site's first round."""
        last = self.last_round()
        values = self.state().load(last) if last else None
        if values is not None and values.size != length:
            raise ProtocolError(
                "protocol.malformed",
                f"The site remembers {values.size} values of the run; expected "
                f"{length}.",
                remedy="Ask the coordinator to start the run under a new name.",
            )
        return values

    def save(self, values: FlatParameters) -> None:
        """Remember what follows from this round."""
        self.state().save(self.request.round, values, after=self.last_round())


def _plain(
    request: RoundRequest,
    base: FlatParameters,
    layout: ParameterLayout,
    memory: _Memory,
) -> SiteWork:
    """Train from the global parameters, which FedProx holds on to; send the result."""
    del layout, memory
    mu = request.local_strategy.proximal_mu
    return SiteWork(
        start=base,
        change=GradientChange(proximal_mu=mu),
        send=lambda work: work.parameters,
    )


def _scaffold(
    request: RoundRequest,
    base: FlatParameters,
    layout: ParameterLayout,
    memory: _Memory,
) -> SiteWork:
    """Train with corrected gradients; send the result and what c_i changed by."""
    start, control = halves(base)
    if not request.trains:
        return SiteWork(start=start, change=GradientChange(), send=_nothing)
    remembered = memory.load(length=start.size)
    own = np.zeros_like(start) if remembered is None else remembered

    def send(work: FinishedWork) -> FlatParameters:
        new = next_control(
            own,
            control,
            start=start,
            end=work.parameters,
            learning_rates=work.learning_rates,
        )
        memory.save(new)
        return np.concatenate([work.parameters, new - own])

    added = unflatten(correction_of(control, own), layout)
    return SiteWork(start=start, change=GradientChange(added=added), send=send)


def _local_only(
    request: RoundRequest,
    base: FlatParameters,
    layout: ParameterLayout,
    memory: _Memory,
) -> SiteWork:
    """Train from the site's own last parameters; remember the result, send nothing."""
    del request
    own = memory.load(length=layout.num_values)

    def send(work: FinishedWork) -> None:
        memory.save(work.parameters)

    start = base if own is None else own
    return SiteWork(start=start, change=GradientChange(), send=send)


def _nothing(work: FinishedWork) -> None:
    del work


_Rule = Callable[[RoundRequest, FlatParameters, ParameterLayout, _Memory], SiteWork]
_RULES: Mapping[LocalRule, _Rule] = {
    "plain": _plain,
    "fedprox": _plain,
    "scaffold": _scaffold,
    "local_only": _local_only,
}
