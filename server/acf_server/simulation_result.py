"""What a simulation tells: `simulation.json` in the run's folder, and the table."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from acf_server.run_plan import StrategySettings
from acfnet_core.evaluation.verdict import Interval, ModelScore, PairedDifference
from acfnet_core.federation.compression import UpdateSettings

SIMULATION_FILE = "simulation.json"
Engine = Literal["in-process", "ray"]
SplitName = Literal["given", "iid", "label", "size"]
"""How the sites came about: `given` where each cohort is one."""
POOLED = "pooled"
"""The name of the model that is trained on the patients of all sites."""
_NO_FIGURE = "not determined"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SimulatedSiteSize(_Record):
    """A site's patients without those kept back; a count below the minimum is None."""

    name: str
    num_patients: int | None
    num_events: int | None


class ComparedModel(_Record):
    """What a model was trained on, and for how long."""

    name: str
    num_training_patients: int = Field(ge=0)
    num_steps: int = Field(ge=0)
    """Optimiser steps, of all sites together where several trained; as planned, where
    early stopping ends a site's rounds before."""


class RoundJudgement(_Record):
    """The global model after a round, on the patients kept back; 0 is the first model.

    There is no interval: these figures tell how the run went, and are no basis for
    choosing a round and quoting its figure.
    """

    round: int = Field(ge=0)
    harrell_c: float | None
    integrated_brier: float | None


class SimulationResult(_Record):
    """A simulated run, judged on patients whom no model was trained on."""

    format_version: Literal[1] = 1
    run: str
    run_folder: str
    engine: Engine
    split: SplitName
    concentration: float | None
    """How alike the sites are; None where it does not say."""
    seed: int
    rounds: int
    strategy: StrategySettings
    updates: UpdateSettings = UpdateSettings()
    sites: tuple[SimulatedSiteSize, ...]
    num_held_out: int = Field(ge=0)
    num_held_out_events: int = Field(ge=0)
    num_bootstrap: int = Field(ge=0)
    models: tuple[ComparedModel, ...]
    """The federated model first; the pooled one second, then each site's own, unless
    they were left out."""
    scores: tuple[ModelScore, ...]
    """Of `models` and of the baselines."""
    differences: tuple[PairedDifference, ...]
    """The federated model minus each other, on the same resamples."""
    reaches_pooled: bool | None
    """Whether the federated model's Harrell's C is not below the pooled model's 95 %
    interval; None where one is not determined or no pooled model was trained."""
    by_round: tuple[RoundJudgement, ...]
    warnings: tuple[str, ...]
    seconds: float = Field(ge=0)

    def lines(self) -> Iterator[str]:
        """Yield the table for people."""
        sizes = ", ".join(_describe_size(site) for site in self.sites)
        yield f"{len(self.sites)} sites ({self.split}): {sizes}"
        yield (
            f"held out: {self.num_held_out} patients, {self.num_held_out_events} "
            "events; 95 % bootstrap intervals"
        )
        trained = {model.name: model for model in self.models}
        width = max(len(score.name) for score in self.scores)
        for score in self.scores:
            model = trained.get(score.name)
            took = (
                f"{model.num_training_patients} patients, {model.num_steps} steps"
                if model
                else "baseline, on the pooled patients"
            )
            yield (
                f"  {score.name:<{width}}  C {describe(score.harrell_c):<22}  "
                f"Uno {describe(score.uno_c):<22}  "
                f"IBS {describe(score.integrated_brier):<22}  {took}"
            )
        if POOLED in trained:
            yield _describe_reach(self.reaches_pooled)
        yield from (f"warning: {warning}" for warning in self.warnings)


def reaches(scores: Sequence[ModelScore]) -> bool | None:
    """Tell whether the first model's C is not below the pooled one's 95 % interval.

    None where one of them is not determined, or nothing was pooled.
    """
    ours = scores[0].harrell_c
    pooled = (score.harrell_c for score in scores if score.name == POOLED)
    theirs = next(pooled, None)
    if ours is None or theirs is None or theirs.low is None:
        return None
    return ours.estimate >= theirs.low


def describe(interval: Interval | None) -> str:
    """Return `0.612 (0.540 to 0.684)`, or that there is none."""
    if interval is None:
        return _NO_FIGURE
    if interval.low is None or interval.high is None:
        return f"{interval.estimate:.3f} (no interval)"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _describe_size(site: SimulatedSiteSize) -> str:
    if site.num_patients is None:
        return f"{site.name} (few patients)"
    events = "?" if site.num_events is None else site.num_events
    return f"{site.name} (n = {site.num_patients}, {events} events)"


def _describe_reach(reaches_pooled: bool | None) -> str:
    if reaches_pooled is None:
        return "Whether the federated model reaches the pooled one is not determined."
    verb = "reaches" if reaches_pooled else "does not reach"
    return f"The federated model {verb} the pooled model's C within its interval."
