"""A site's part of the run's strategy: where it starts, what it changes, what it sends.

    plain, fedprox   from the global parameters; sends its own, or an encoded update
    scaffold         the same, with control variates: sends [parameters | change of c_i]
    local_only       from its own last parameters; sends none

What the site must remember is written before the answer is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.compression import SentValues, compress_update
from acfnet_core.federation.messages import LocalRule, RoundRequest
from acfnet_core.federation.parameters import (
    FlatParameters,
    ParameterLayout,
    sha256_of,
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


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What leaves the site.

    Attributes:
        values: As they travel.
        parameters_sha256: Of the parameters that they are, or are decoded to.
    """

    values: SentValues
    parameters_sha256: str


Send = Callable[[FinishedWork], Sent | None]


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
            updates, rule = self.request.updates, self.request.local_strategy.name
            name = updates.compression if updates.is_on else rule
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
    del layout
    change = GradientChange(proximal_mu=request.local_strategy.proximal_mu)
    is_encoded = request.trains and request.updates.is_on
    send = _encoding(request, base, memory) if is_encoded else _as_it_is
    return SiteWork(start=base, change=change, send=send)


def _as_it_is(work: FinishedWork) -> Sent:
    return _plain_values(work.parameters)


def _plain_values(values: FlatParameters) -> Sent:
    return Sent(values=values, parameters_sha256=sha256_of(values))


def _encoding(request: RoundRequest, base: FlatParameters, memory: _Memory) -> Send:
    """Return what encodes the update and remembers what did not fit in."""
    residual = memory.load(length=base.size)

    def send(work: FinishedWork) -> Sent:
        try:
            update = compress_update(base, work.parameters, residual, request.updates)
        except ValueError as error:
            raise ProtocolError(
                "protocol.update_refused",
                f"Round {request.round}: the update cannot be encoded: {error}.",
                remedy="Ask the coordinator to start a new run with a lower "
                "learning_rate.",
            ) from error
        memory.save(update.residual)
        parameters_sha256 = sha256_of(update.parameters)
        return Sent(values=update.encoded, parameters_sha256=parameters_sha256)

    return send


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

    def send(work: FinishedWork) -> Sent:
        new = next_control(
            own,
            control,
            start=start,
            end=work.parameters,
            learning_rates=work.learning_rates,
        )
        memory.save(new)
        return _plain_values(np.concatenate([work.parameters, new - own]))

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
