"""What a simulated run is worth: its model beside the pooled one and each site's own.

All are judged on the patients that were kept back, whom none of them saw, with the same
resamples. The pooled model takes as many optimiser steps as all sites together, a
site's own as many as that site: every patient is visited as often as in the run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acf_server.run_files import EVALUATION_FILE, read_run, write_record
from acf_server.run_plan import RunPlan
from acf_server.simulation_data import SimulatedData
from acf_server.simulation_result import (
    POOLED,
    ComparedModel,
    RoundJudgement,
    SimulatedSiteSize,
)
from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.store import PreparedCohort, summarise
from acfnet_core.evaluation.judge import DEFAULT_NUM_BOOTSTRAP, judge
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.federation.checkpoint import completed_rounds, load_checkpoint
from acfnet_core.federation.release import RELEASE_FOLDER, load_release
from acfnet_core.model.config import MODEL_NAME, AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.baselines_of_cohorts import (
    Outcomes,
    outcomes_of,
    predict_with_baselines,
)
from acfnet_core.training.central_training import steps_of_run, train_centrally
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.model_arrays import load_arrays
from acfnet_core.training.release import load_model
from acfnet_core.training.settings import LocalTrainingSettings

MAX_JUDGED_ROUNDS = 12
"""Rounds whose models are judged; of more, evenly spaced ones."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of judging a simulated run."""

    sites: tuple[SimulatedSiteSize, ...]
    models: tuple[ComparedModel, ...]
    rounds: tuple[RoundJudgement, ...]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class SimulationJudge:
    """Trains what a simulated run is compared with, and judges all.

    Attributes:
        plan: The run.
        run_folder: Of the finished run.
        data: Its patients.
        device: Where to compute.
        num_bootstrap: Resamples of each interval.
        compares: Whether pooled and local models are trained beside it.
        tell: Takes the name of each model as its training begins.
    """

    plan: RunPlan
    run_folder: Path
    data: SimulatedData
    device: torch.device
    tell: Callable[[str], None]
    num_bootstrap: int = DEFAULT_NUM_BOOTSTRAP
    compares: bool = True

    def judge(self) -> Judgement:
        """Judge the run, and write evaluation.json.

        Raises:
            DataError: Nobody among the patients kept back, or among those trained on,
                can be used.
        """
        held_out = self._view(self.data.open_held_out())
        pooled = self._view(self.data.open_pooled())
        cohorts = {
            site.name: self._view(self.data.open_site(site)) for site in self.data.sites
        }
        steps = {name: self._steps(cohort) for name, cohort in cohorts.items()}
        model = load_model(self.run_folder / RELEASE_FOLDER)
        predictions = {MODEL_NAME: self._predict(model, held_out)}
        models = {
            MODEL_NAME: ComparedModel(
                name=MODEL_NAME,
                num_training_patients=len(pooled.patients),
                num_steps=sum(steps.values()),
            )
        }
        others = {POOLED: (pooled, sum(steps.values()))}
        others |= {alone_name(name): (cohorts[name], steps[name]) for name in cohorts}
        for name, (cohort, num_steps) in others.items() if self.compares else ():
            self.tell(name)
            predictions[name], models[name] = self._train(
                name, cohort, num_steps, held_out
            )
        training = outcomes_of(pooled)
        judged = outcomes_of(held_out)
        predictions |= predict_with_baselines(training, judged, self._edges)
        verdict = self._judge(judged, predictions, training, self.num_bootstrap)
        readings = {
            "reading_sha256": held_out.reading_sha256,
            "references_reading_sha256": [pooled.reading_sha256],
        }
        verdict = verdict.model_copy(update=readings)
        write_record(self.run_folder / EVALUATION_FILE, verdict)
        return Judgement(
            sites=tuple(_size(name, cohort) for name, cohort in cohorts.items()),
            models=tuple(models.values()),
            rounds=tuple(self._judge_rounds(held_out, judged, training)),
            verdict=verdict,
        )

    def _train(
        self,
        name: str,
        cohort: PreparedCohort,
        num_steps: int,
        held_out: PreparedCohort,
    ) -> tuple[np.ndarray, ComparedModel]:
        """Train a model on one cohort; return its predictions and what it took."""
        trained = train_centrally(
            cohort,
            config=self._config,
            settings=self._settings,
            loss=self._loss,
            num_steps=num_steps,
            seed=self.plan.seed,
            name=name,
            device=self.device,
        )
        compared = ComparedModel(
            name=name,
            num_training_patients=len(cohort.patients),
            num_steps=trained.num_steps,
        )
        return self._predict(trained.model, held_out), compared

    def _judge_rounds(
        self, held_out: PreparedCohort, judged: Outcomes, training: Outcomes
    ) -> Iterator[RoundJudgement]:
        """Yield what the models of earlier rounds are worth, without intervals."""
        model = AcfNet(self._config)
        for number in spaced_rounds(completed_rounds(self.run_folder)):
            arrays, _ = load_checkpoint(self.run_folder, number)
            load_arrays(model, arrays)
            survival = {MODEL_NAME: self._predict(model.to(self.device), held_out)}
            score = self._judge(judged, survival, training, num_bootstrap=1).scores[0]
            brier = score.integrated_brier
            yield RoundJudgement(
                round=number,
                harrell_c=score.harrell_c.estimate if score.harrell_c else None,
                integrated_brier=brier.estimate if brier else None,
            )

    def _judge(
        self,
        judged: Outcomes,
        predictions: dict[str, np.ndarray],
        training: Outcomes,
        num_bootstrap: int,
    ) -> Verdict:
        _, release = load_release(self.run_folder / RELEASE_FOLDER)
        return judge(
            time_months=judged.time_months,
            event=judged.event,
            predictions=predictions,
            bin_edges_months=self._edges,
            train_time_months=training.time_months,
            train_event=training.event,
            num_bootstrap=num_bootstrap,
            bootstrap_seed=self.plan.seed,
            minimum_cell=read_run(self.run_folder).minimum_cell,
            supported_months=release.supported_months,
            landmark_months=release.landmark_months,
        )

    def _predict(self, model: AcfNet, held_out: PreparedCohort) -> np.ndarray:
        return predict_cohort(model.to(self.device), held_out, loss=self._loss).survival

    def _steps(self, cohort: PreparedCohort) -> int:
        return steps_of_run(
            self._settings, len(cohort.patients), num_rounds=self.plan.rounds
        )

    def _view(self, cohort: PreparedCohort) -> PreparedCohort:
        return view_at_landmark(cohort, self.plan.landmark_months)

    @property
    def _config(self) -> AcfNetConfig:
        return AcfNetConfig.model_validate(self.plan.model)

    @property
    def _settings(self) -> LocalTrainingSettings:
        return LocalTrainingSettings.model_validate(self.plan.training)

    @property
    def _loss(self) -> LossConfig:
        return LossConfig.model_validate(self.plan.loss)

    @property
    def _edges(self) -> np.ndarray:
        return np.asarray(self._config.bin_edges_months, dtype=np.float64)


def alone_name(site: str) -> str:
    """Return what the model is called that a site trains by itself."""
    return f"{site} alone"


def spaced_rounds(rounds: list[int]) -> list[int]:
    """Return at most `MAX_JUDGED_ROUNDS` of the rounds, the first and last among them.

    >>> spaced_rounds([0, 1, 2])
    [0, 1, 2]
    >>> spaced_rounds(list(range(101)))
    [0, 9, 18, 27, 36, 45, 55, 64, 73, 82, 91, 100]
    """
    if len(rounds) <= MAX_JUDGED_ROUNDS:
        return rounds
    chosen = np.linspace(0, len(rounds) - 1, MAX_JUDGED_ROUNDS)
    return [rounds[round(index)] for index in chosen]


def _size(name: str, cohort: PreparedCohort) -> SimulatedSiteSize:
    told = summarise(cohort)
    return SimulatedSiteSize(
        name=name, num_patients=told.num_patients, num_events=told.num_events
    )
