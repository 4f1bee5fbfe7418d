"""A run's strategy: what the sites are sent, asked and held to, and what comes of it.

The arithmetic is in acfnet_core/federation/strategies and flower_strategies.py; here it
is chosen by the plan, with what goes with it in the messages of a round.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acf_server.flower_strategies import (
    FlowerAdaptive,
    FlowerMedian,
    FlowerMomentum,
    FlowerTrimmedMean,
)
from acf_server.run_plan import RunPlan, StrategyName
from acfnet_core.federation.admission import (
    AdmissionRules,
    AdmittedUpdate,
    admit,
    refusal,
)
from acfnet_core.federation.aggregation import Weighing
from acfnet_core.federation.blocks import norm_of
from acfnet_core.federation.compression import UpdateSettings, received_parameters
from acfnet_core.federation.messages import LocalRule, LocalStrategy, RoundReply
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.federation.strategies.averaging import Averaging
from acfnet_core.federation.strategies.local_only import (
    LocalOnly,
    admit_without_parameters,
)
from acfnet_core.federation.strategies.multi_krum import MultiKrum
from acfnet_core.federation.strategies.scaffold import Scaffold, with_control
from acfnet_core.federation.strategies.site_rounds import last_rounds, note_rounds
from acfnet_core.federation.strategies.strategy import Strategy
from acfnet_core.training.settings import LocalTrainingSettings

_LOCAL_RULES: Mapping[StrategyName, LocalRule] = {
    "fedprox": "fedprox",
    "scaffold": "scaffold",
    "local_only": "local_only",
}
"""The strategies with work for the sites; with the others they train plainly."""


@dataclass(frozen=True)
class RunStrategy:
    """The strategy of one run.

    It remembers nothing: `state` is what `aggregate` gave back last, and is kept with
    the checkpoint.

    Args:
        plan: The resolved run.
    """

    plan: RunPlan
    _rule: Strategy = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rule", _RULES[self.plan.strategy.name](self.plan))

    @property
    def makes_a_model(self) -> bool:
        """Whether there is a global model to release in the end."""
        return self.plan.strategy.name != "local_only"

    def vector_to_send(
        self, base: FlatParameters, state: NamedArrays
    ) -> FlatParameters:
        """Return what a round's request carries, whose hash is its `base_sha256`."""
        if self.plan.strategy.name == "scaffold":
            return with_control(base, state)
        return base

    def request_fields(
        self, state: NamedArrays, *, trains: bool
    ) -> dict[str, LocalStrategy | UpdateSettings | dict[str, Any] | None]:
        """Return the fields of a round's request that are the strategy's.

        Models of the sites' own come after the last round, when nobody trains.
        """
        settings, personalise = self.plan.strategy, self.plan.personalise
        local = LocalStrategy(
            name=_LOCAL_RULES.get(settings.name, "plain"),
            proximal_mu=settings.proximal_mu or 0.0,
            last_rounds=last_rounds(state),
        )
        asked = None
        if personalise is not None and not trains:
            asked = personalise.model_dump(mode="json")
        updates = self.plan.updates if trains else UpdateSettings()
        return {"local_strategy": local, "updates": updates, "personalise": asked}

    def admit(
        self,
        reply: RoundReply,
        parameters: NDArray[np.generic] | None,
        *,
        sent: FlatParameters,
    ) -> AdmittedUpdate:
        """Check what came from a site that was asked to train.

        Args:
            reply: A reply that `check_reply` accepted.
            parameters: What came beside it.
            sent: What the request carried.

        Raises:
            ProtocolError: `protocol.update_refused`, with the reason.
        """
        rules = self.admission_rules(sent)
        if not self.makes_a_model:
            has_sent = parameters is not None
            return admit_without_parameters(
                reply, base=sent, rules=rules, has_sent=has_sent
            )
        if parameters is None:
            raise refusal(reply.site, "the reply came without parameters")
        if self.plan.updates.is_on:
            parameters = self._decode(reply.site, parameters, sent)
        return admit(reply, parameters, base=sent, rules=rules)

    def _decode(
        self, site: str, encoded: NDArray[np.generic], sent: FlatParameters
    ) -> FlatParameters:
        """Return the parameters that an encoded update makes of those sent."""
        try:
            return received_parameters(encoded, sent, self.plan.updates)
        except ValueError as error:
            raise refusal(site, str(error)) from error

    def admission_rules(self, sent: FlatParameters) -> AdmissionRules:
        """Return the bounds that an update must keep."""
        settings = self.plan.strategy
        has_two = settings.name == "scaffold"
        return AdmissionRules(
            num_values=sent.size,
            max_examples=settings.max_examples,
            max_update_norm=settings.max_update_norm,
            max_control_norm=self._max_control_norm(sent) if has_two else None,
        )

    def aggregate(
        self,
        updates: Sequence[AdmittedUpdate],
        *,
        base: FlatParameters,
        state: NamedArrays,
        round_number: int,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Return the next global parameters, and what to keep beside them.

        Raises:
            ProtocolError: The result is not finite (`protocol.run_failed`).
        """
        new, kept = self._rule.aggregate(
            updates, base=base, state=state, round_number=round_number
        )
        if self.plan.updates.is_on:
            # By it a site knows which round's residual it goes on from.
            kept = {**kept, **note_rounds(state, updates, round_number)}
        return new, kept

    def _max_control_norm(self, sent: FlatParameters) -> float:
        """Return how far an honest site's control variate can move at most.

        It is a mean of gradients that were clipped, with their weight decay, and so is
        the one before it.
        """
        training = LocalTrainingSettings.model_validate(self.plan.training)
        longest = norm_of(sent[: sent.size // 2]) + self.plan.strategy.max_update_norm
        return 2 * (training.max_grad_norm + training.weight_decay * longest)


def _weighing(plan: RunPlan) -> Weighing:
    return Weighing(
        by=plan.strategy.weighting,
        cap=plan.strategy.max_share,
        minimum_cell=plan.minimum_cell,
    )


def _averaging(plan: RunPlan) -> Strategy:
    return Averaging(weighing=_weighing(plan))


def _momentum(plan: RunPlan) -> Strategy:
    settings = plan.strategy
    return FlowerMomentum(
        weighing=_weighing(plan),
        learning_rate=_given(settings.server_learning_rate),
        momentum=_given(settings.server_momentum),
    )


def _adaptive(
    plan: RunPlan, *, name: Literal["fedadam", "fedyogi", "fedadagrad"]
) -> Strategy:
    settings = plan.strategy
    averages = {
        key: _given(getattr(settings, key))
        for key in ("beta_1", "beta_2")
        if name != "fedadagrad"
    }
    return FlowerAdaptive(
        name=name,
        weighing=_weighing(plan),
        learning_rate=_given(settings.server_learning_rate),
        tau=_given(settings.tau),
        **averages,
    )


def _scaffold(plan: RunPlan) -> Strategy:
    return Scaffold(
        num_sites=len(plan.sites),
        server_learning_rate=_given(plan.strategy.server_learning_rate),
    )


def _trimmed_mean(plan: RunPlan) -> Strategy:
    return FlowerTrimmedMean(_given(plan.strategy.trimmed_share))


def _multi_krum(plan: RunPlan) -> Strategy:
    settings = plan.strategy
    return MultiKrum(
        weighing=_weighing(plan),
        num_malicious=int(_given(settings.num_malicious)),
        num_kept=int(_given(settings.num_kept)),
    )


def _given(value: float | None) -> float:
    """Return a parameter that the settings have completed."""
    if value is None:
        raise ValueError("the settings lack a parameter of their strategy")
    return value


_RULES: Mapping[StrategyName, Callable[[RunPlan], Strategy]] = {
    "fedavg": _averaging,
    "fedprox": _averaging,
    "fedavgm": _momentum,
    "fedadam": partial(_adaptive, name="fedadam"),
    "fedyogi": partial(_adaptive, name="fedyogi"),
    "fedadagrad": partial(_adaptive, name="fedadagrad"),
    "scaffold": _scaffold,
    "median": lambda plan: FlowerMedian(),
    "trimmed_mean": _trimmed_mean,
    "multi_krum": _multi_krum,
    "local_only": lambda plan: LocalOnly(),
}
