"""Rounds of a run under a strategy: in one process, with real training at the sites."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from references.cohorts import make_cohort, with_events
from references.site_rounds import small_model
from references.strategy_updates import make_plan

from acf_server.strategies import RunStrategy
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.messages import RoundReply, RoundRequest
from acfnet_core.federation.parameters import (
    FlatParameters,
    NamedArrays,
    flatten,
    layout_of,
    sha256_of,
)
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.model.network import AcfNet
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings
from acfnet_core.training.site_round import SiteAnswer, answer_round

CPU = torch.device("cpu")
TRAINING = {
    "local_steps": 2,
    "batch_size": 8,
    "optimiser": "sgd",
    "learning_rate": 0.05,
}


def make_cohorts(num_sites: int = 3, num_patients: int = 14) -> list[PreparedCohort]:
    """Make up sites with an event for two thirds of their patients."""
    return [
        with_events(
            make_cohort(num_patients + number, seed=number),
            2 * (num_patients + number) // 3,
        )
        for number in range(num_sites)
    ]


@dataclass
class StrategyRun:
    """A run that is taken round by round.

    Attributes:
        lost: Round -> the sites whose answer of it never comes.
        replies: Of the last exchange.
    """

    name: str
    folder: Path
    cohorts: Sequence[PreparedCohort]
    strategy_settings: dict[str, Any] | None = None
    plan_changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=lambda: dict(TRAINING))
    num_rounds: int = 3
    lost: Mapping[int, Collection[str]] = field(default_factory=dict)
    base: FlatParameters = field(init=False)
    state: NamedArrays = field(default_factory=dict)
    replies: list[RoundReply] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = LocalTrainingSettings.model_validate(self.training)
        self.strategy = RunStrategy(
            make_plan(
                self.name,
                len(self.cohorts),
                strategy=self.strategy_settings,
                training=settings.model_dump(mode="json"),
                **self.plan_changes,
            )
        )
        self.model: AcfNet = small_model()
        self.base = flatten(model_arrays(self.model))

    def play(self, *, first: int = 1, last: int | None = None) -> "StrategyRun":
        """Take rounds, each from what the one before left."""
        for number in range(first, (last or self.num_rounds) + 1):
            self.take_round(number)
        return self

    def take_round(self, number: int) -> None:
        """Take one round; a number above `num_rounds` only judges."""
        trains = number <= self.num_rounds
        sent = self.strategy.vector_to_send(self.base, self.state)
        answers = self.exchange(number, sent)
        self.replies = [answer.reply for answer in answers]
        if not trains:
            return
        updates = [
            self.strategy.admit(answer.reply, answer.parameters, sent=sent)
            for answer in answers
        ]
        self.base, self.state = self.strategy.aggregate(
            updates, base=self.base, state=self.state, round_number=number
        )

    def exchange(self, number: int, sent: FlatParameters) -> list[SiteAnswer]:
        """Ask every site, and return the answers that come."""
        request = self.request(number, sent)
        answers = []
        for index, cohort in enumerate(self.cohorts):
            site = f"site-{index}"
            answer = answer_round(
                request,
                sent,
                cohort,
                site=site,
                device=CPU,
                sign=_no_signature,
                runs_folder=self.folder / site,
            )
            if site not in self.lost.get(number, ()):
                answers.append(answer)
        return answers

    def request(self, number: int, sent: FlatParameters) -> RoundRequest:
        """Return a round's request, as it is after its way over the network."""
        trains = number <= self.num_rounds
        request = RoundRequest(
            run="trial",
            round=number,
            num_rounds=self.num_rounds,
            trains=trains,
            seed=7,
            contract_sha256=self.cohorts[0].contract.sha256(),
            layout_sha256=layout_of(model_arrays(self.model)).sha256(),
            base_sha256=sha256_of(sent),
            model=self.model.config.model_dump(mode="json"),
            training=self.strategy.plan.training,
            loss={},
        ).model_copy(update=self.strategy.request_fields(self.state, trains=trains))
        return RoundRequest.model_validate_json(request.model_dump_json())


def _no_signature(claim: UpdateClaim) -> str:
    return base64.b64encode(claim.site.encode()).decode()


def as_saved(state: NamedArrays) -> NamedArrays:
    """Return copies, as a checkpoint gives back what it was given."""
    return {name: np.array(state[name]) for name in state}
