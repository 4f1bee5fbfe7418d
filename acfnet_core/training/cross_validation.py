"""Repeated cross-validation of a network beside the baselines, in the same folds.

Axes: `patient` of the cohort; `bin` right edges of the network's time bins.

Every model sees the same training patients in a fold and is judged on the same others.
Nothing is chosen in a fold: a setting that was tuned on these figures has to be judged
on other patients.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.splits import draw_folds
from acfnet_core.evaluation.baselines import KAPLAN_MEIER, KaplanMeierBaseline
from acfnet_core.evaluation.brier import patient_integrated_brier
from acfnet_core.evaluation.discrimination import DEFAULT_TAU_MONTHS, harrell_c
from acfnet_core.evaluation.held_out import HeldOut
from acfnet_core.evaluation.scoring import Predictions
from acfnet_core.evaluation.survival_curve import interpolate_survival
from acfnet_core.model.config import MODEL_NAME, AcfNetConfig
from acfnet_core.model.network import build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.baselines_of_cohorts import (
    Outcomes,
    outcomes_of,
    predict_with_baselines,
)
from acfnet_core.training.early_stopping import divide_cohort
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import LocalTrainingSettings


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """How one model does on the patients of one fold; None where it is not defined."""

    harrell_c: float | None
    integrated_brier: float | None


@dataclass(frozen=True, kw_only=True)
class FoldFinished:
    """One fold of one repeat.

    Attributes:
        repeat: From 1.
        fold: From 1.
        judged: The cohort's patients that were not trained on.
        survival: By model, their predicted survival at the bins' right edges.
        scores: By model.
    """

    repeat: int
    fold: int
    judged: Int[np.ndarray, " judged"]
    survival: Mapping[str, Float[np.ndarray, "judged bin"]]
    scores: Mapping[str, FoldScore]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure's mean and standard deviation over the folds where it is defined."""

    mean: float
    standard_deviation: float
    num_folds: int


def cross_validate(
    cohort: PreparedCohort,
    *,
    config: AcfNetConfig,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    num_folds: int = 5,
    num_repeats: int = 10,
    seed: int = 0,
) -> Iterator[FoldFinished]:
    """Train and judge in every fold, repeat by repeat.

    Args:
        cohort: All patients.
        config: The network's settings.
        settings: Its training; with a validation share it stops early, on training
            patients that it holds back from itself.
        loss: Weights of the loss terms.
        num_folds: Of each repeat, stratified by event.
        num_repeats: Times that the folds are drawn anew.
        seed: Decides folds, initial parameters and order of patients.

    Raises:
        ValueError: The folds do not fit the cohort.
        DataError: A training part has no event, or too few patients to hold back.
    """
    everybody = outcomes_of(cohort)
    edges = np.array(config.bin_edges_months, np.float64)
    for repeat in range(1, num_repeats + 1):
        fold_seed = derive_seed(seed, "folds", repeat)
        fold_of = draw_folds(everybody.event, num_folds=num_folds, seed=fold_seed)
        for fold in range(1, num_folds + 1):
            judged = np.flatnonzero(fold_of == fold - 1)
            training = _some(cohort, np.flatnonzero(fold_of != fold - 1))
            held_out = _some(cohort, judged)
            curves = _fit_network(
                training,
                held_out,
                config=config,
                settings=settings,
                loss=loss,
                seed=derive_seed(seed, "network", repeat, fold),
            )
            outcomes = outcomes_of(training), outcomes_of(held_out)
            survival = {MODEL_NAME: curves, **_ask_baselines(*outcomes, edges)}
            yield FoldFinished(
                repeat=repeat,
                fold=fold,
                judged=judged,
                survival=survival,
                scores=_score(*outcomes, survival, edges),
            )


def mean_predictions(
    folds: Sequence[FoldFinished], num_patients: int
) -> dict[str, Float[np.ndarray, "patient bin"]]:
    """Return each patient's curve, averaged over the repeats that judged the patient.

    Raises:
        ValueError: There are no folds, or they leave a patient out.
    """
    if not folds:
        raise ValueError("there are no folds to average")
    times = np.zeros(num_patients, np.int64)
    for fold in folds:
        times[fold.judged] += 1
    if not times.all():
        raise ValueError("the folds leave a patient out: average whole repeats")
    totals: dict[str, np.ndarray] = {}
    for fold in folds:
        for name, survival in fold.survival.items():
            whole = (num_patients, survival.shape[1])
            total = totals.setdefault(name, np.zeros(whole, np.float64))
            total[fold.judged] += survival
    return {name: total / times[:, None] for name, total in totals.items()}


def spread_of(values: Sequence[float | None]) -> Spread:
    """Summarise a figure over folds; folds share patients, so it is no interval.

    Raises:
        ValueError: It is defined in no fold.
    """
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError("the figure is defined in no fold")
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return Spread(
        mean=float(np.mean(known)),
        standard_deviation=deviation,
        num_folds=len(known),
    )


def _fit_network(
    training: PreparedCohort,
    judged: PreparedCohort,
    *,
    config: AcfNetConfig,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    seed: int,
) -> Float[np.ndarray, "judged bin"]:
    """Train a network from the start and predict the fold's patients."""
    parts = divide_cohort(
        training,
        validation_share=settings.validation_share,
        seed=derive_seed(seed, "validation"),
    )
    model = build_model(config, seed=derive_seed(seed, "initial"))
    with torch.random.fork_rng(devices=[]):
        # Dropout draws from torch's own generator.
        torch.default_generator.manual_seed(derive_seed(seed, "dropout"))
        steps = train_locally(
            model,
            parts.training,
            settings=settings,
            loss=loss,
            seed=derive_seed(seed, "order"),
            validation=parts.validation,
        )
        for _ in steps:
            pass
    return predict_cohort(model, judged, loss=loss).survival


def _ask_baselines(
    training: Outcomes, judged: Outcomes, edges: Float[np.ndarray, " bin"]
) -> dict[str, Float[np.ndarray, "judged bin"]]:
    """Fit each baseline on the training patients and predict the fold's."""
    average = KaplanMeierBaseline.fit(training.time_months, training.event)
    return {
        **predict_with_baselines(training, judged, edges),
        KAPLAN_MEIER: average.predict_survival(judged.event.size, edges),
    }


def _score(
    training: Outcomes,
    judged: Outcomes,
    survival: Mapping[str, Float[np.ndarray, "judged bin"]],
    edges: Float[np.ndarray, " bin"],
) -> dict[str, FoldScore]:
    held_out = HeldOut.prepare(
        judged.time_months,
        judged.event,
        edges,
        train_time_months=training.time_months,
        train_event=training.event,
        tau_months=DEFAULT_TAU_MONTHS,
        num_bootstrap=1,
        bootstrap_seed=0,
        minimum_cell=1,
    )
    return {name: _score_one(held_out, curves) for name, curves in survival.items()}


def _score_one(
    held_out: HeldOut, survival: Float[np.ndarray, "judged bin"]
) -> FoldScore:
    months = held_out.brier_months
    brier = None
    if months.size:
        curves = interpolate_survival(survival, held_out.bin_edges_months, months)
        brier = patient_integrated_brier(
            held_out.time_months,
            held_out.event,
            curves,
            months,
            censoring=held_out.censoring,
        ).mean()
    risk = Predictions(held_out, survival).risk()
    return FoldScore(
        harrell_c=harrell_c(held_out.time_months, held_out.event, risk),
        integrated_brier=None if brier is None else float(brier),
    )


def _some(cohort: PreparedCohort, rows: Int[np.ndarray, " row"]) -> PreparedCohort:
    return replace(cohort, patients=tuple(cohort.patients[row] for row in rows))
