"""Admitted updates with given values, and every strategy as a plan makes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from acf_server.run_plan import RosterSite, RunPlan, StrategySettings
from acf_server.strategies import RunStrategy
from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.parameters import FlatParameters, NamedArrays
from acfnet_core.training.settings import LocalTrainingSettings

EVERY_STRATEGY: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.1},
    "fedavgm": {},
    "fedadam": {},
    "fedyogi": {},
    "fedadagrad": {},
    "scaffold": {},
    "median": {},
    "trimmed_mean": {"trimmed_share": 0.34},
    "multi_krum": {"num_malicious": 0, "num_kept": 2},
    "local_only": {},
}
"""Each strategy's name, and settings of its own for a run over three sites or more."""


def update_of(
    site: str, parameters: Any, *, num_examples: int = 1, num_events: int | None = None
) -> AdmittedUpdate:
    """Return an update that was admitted."""
    return AdmittedUpdate(
        site=site,
        num_examples=num_examples,
        num_events=num_events,
        parameters=np.asarray(parameters, dtype=np.float32),
        update_norm=0.0,
    )


def make_plan(
    name: str,
    num_sites: int = 3,
    *,
    strategy: dict[str, Any] | None = None,
    **changes: Any,
) -> RunPlan:
    """Resolve a run of a strategy.

    Args:
        name: Of the strategy.
        num_sites: All of them must answer.
        strategy: Its settings; those of `EVERY_STRATEGY` if not given.
        changes: Fields of the plan that are to differ.
    """
    settings = EVERY_STRATEGY[name] if strategy is None else strategy
    training = LocalTrainingSettings(local_steps=1, optimiser="sgd")
    content: dict[str, Any] = {
        "run": "trial",
        "sites": tuple(
            RosterSite(name=f"site-{number}", public_key_pem="")
            for number in range(num_sites)
        ),
        "rounds": 3,
        "minimum_sites": num_sites,
        "round_timeout_s": 1.0,
        "seed": 7,
        "contract_sha256": "c" * 64,
        "model": {},
        "loss": {},
        "training": training.model_dump(mode="json"),
        "strategy": StrategySettings.model_validate({"name": name, **settings}),
    }
    return RunPlan.model_validate(content | changes)


def aggregate(
    name: str,
    updates: Sequence[AdmittedUpdate],
    base: FlatParameters,
    *,
    state: NamedArrays | None = None,
    round_number: int = 1,
    **settings: Any,
) -> tuple[FlatParameters, NamedArrays]:
    """Aggregate as a run of this strategy does.

    Where the strategy has two vectors in one, the updates are given a change of their
    control variate: half of their parameters.
    """
    plan = make_plan(name, len(updates), strategy=EVERY_STRATEGY[name] | settings)
    return RunStrategy(plan).aggregate(
        [with_second_half(name, update) for update in updates],
        base=base,
        state=state or {},
        round_number=round_number,
    )


def with_second_half(name: str, update: AdmittedUpdate) -> AdmittedUpdate:
    """Put a change of the control variate behind the parameters, where there is one."""
    if name != "scaffold":
        return update
    own = update.parameters
    both = np.concatenate([own, own / np.float32(2)])
    return update_of(update.site, both, num_examples=update.num_examples)
