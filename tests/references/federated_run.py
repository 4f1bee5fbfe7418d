"""A whole run in one process: made-up sites, real training, real signatures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric import ec
from references.cohorts import make_cohort
from references.site_rounds import small_config

from acf_server.answers import RawAnswer
from acf_server.in_process import LocalSite
from acf_server.round_loop import RoundLoop
from acf_server.run_events import RunEvent
from acf_server.run_plan import RosterSite, RunPlan, StrategySettings
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.checkpoint import save_checkpoint
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters
from acfnet_core.identity.keys import generate_key, public_key_pem
from acfnet_core.model.network import build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings

SITES = ("hospital-a", "hospital-b", "hospital-c")
NUM_PATIENTS = 12
CPU = torch.device("cpu")
TRAINING = LocalTrainingSettings(local_steps=1, batch_size=6)
Tamper = Callable[[RawAnswer], RawAnswer]


@dataclass
class InProcessSites:
    """The sites of a run, reached by a function call.

    Attributes:
        order: Names in the order in which the sites answer.
        tamper: Site -> what is done to each of its answers on the way.
        runs_folder: Where each site has a folder for what it remembers.
    """

    cohorts: dict[str, PreparedCohort]
    keys: dict[str, ec.EllipticCurvePrivateKey]
    order: Sequence[str] = SITES
    tamper: dict[str, Tamper] = field(default_factory=dict)
    runs_folder: Path | None = None

    def __call__(
        self, request: RoundRequest, base: FlatParameters
    ) -> Iterator[RawAnswer]:
        """Exchange one round."""
        for site in self.order:
            local = LocalSite(
                name=site,
                cohort=self.cohorts[site],
                key=self.keys[site],
                device=CPU,
                runs_folder=self.runs_folder and self.runs_folder / site,
            )
            raw = replace(local.answer(request, base), seconds=0.0)
            yield self.tamper.get(site, _untouched)(raw)


@dataclass
class FederatedRun:
    """A run's folder, its plan, its sites and what it announced."""

    folder: Path
    plan: RunPlan
    sites: InProcessSites
    events: list[RunEvent] = field(default_factory=list)

    def play(self) -> "FederatedRun":
        """Run all rounds."""
        RoundLoop(self.plan, self.folder, self.sites, self.events.append).run()
        return self


def make_sites(names: Sequence[str] = SITES) -> InProcessSites:
    """Make up sites of 12, 13, ... patients without images."""
    return InProcessSites(
        cohorts={
            name: make_cohort(NUM_PATIENTS + number, seed=number)
            for number, name in enumerate(names)
        },
        keys={name: generate_key() for name in names},
        order=names,
    )


def make_run(
    folder: Path,
    sites: InProcessSites,
    *,
    rounds: int = 1,
    minimum_sites: int = 2,
    max_examples: int = 100,
    seed: int = 7,
    landmark_months: float | None = None,
    **model: Any,
) -> FederatedRun:
    """Write a run's initial model and resolve its plan.

    Further keywords are fields of the network's settings.
    """
    names = sorted(sites.keys)
    contract = sites.cohorts[names[0]].contract
    config = small_config(contract.num_clinical_features, **model)
    save_checkpoint(
        folder,
        model_arrays(build_model(config, seed=seed)),
        run="trial",
        round_number=0,
        contributors={},
    )
    plan = RunPlan(
        run="trial",
        sites=tuple(
            RosterSite(
                name=name, public_key_pem=public_key_pem(sites.keys[name].public_key())
            )
            for name in names
        ),
        rounds=rounds,
        minimum_sites=minimum_sites,
        round_timeout_s=1.0,
        seed=seed,
        contract_sha256=contract.sha256(),
        model=config.model_dump(mode="json"),
        loss=LossConfig().model_dump(mode="json"),
        training=TRAINING.model_dump(mode="json"),
        strategy=StrategySettings(max_examples=max_examples),
        landmark_months=landmark_months,
    )
    return FederatedRun(folder, plan, replace(sites))


def _untouched(raw: RawAnswer) -> RawAnswer:
    return raw
