"""Anchors: what clinical columns alone reach on the 197 patients of the public cohort.

Figures far above them mean that an outcome has leaked into the features.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from references.shared_data import SHARED_DATA

from acfnet_core.evaluation.baselines import KaplanMeierBaseline, RidgeCox
from acfnet_core.evaluation.brier import brier_window, patient_integrated_brier
from acfnet_core.evaluation.discrimination import harrell_c
from acfnet_core.evaluation.kaplan_meier import estimate_censoring
from acfnet_core.evaluation.temporal_adjacency import temporal_adjacency_accuracy

TABLE = SHARED_DATA / "crlm/clinical.csv"
FEATURES = [
    "age",
    "sex",
    "major_comorbidity",
    "body_mass_index",
    "node_positive_primary",
    "synchronous_crlm",
    "multiple_metastases",
    "carcinoembryonic_antigen",
    "max_tumor_size",
    "bilobar_disease",
    "extrahep_disease",
    "chemo_before_liver_resection",
    "preoperative_pve",
]
NUM_FOLDS = 5
NUM_REPEATS = 2

pytestmark = pytest.mark.skipif(
    not TABLE.exists(), reason="the public clinical table is not on this machine"
)


@cache
def read_cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (NaN where missing), disease-free times and events."""
    table = pd.read_csv(TABLE).replace([-999, -999.0], np.nan)
    clinical = table[FEATURES].astype(float)
    antigen = "carcinoembryonic_antigen"
    clinical[antigen] = np.log1p(clinical[antigen])
    time_months = table["months_to_DFS_progression"].to_numpy(dtype=np.float64)
    event = table["vital_status_DFS"].to_numpy() == 1
    return clinical.to_numpy(), time_months, event


def draw_folds(event: np.ndarray, seed: int) -> np.ndarray:
    """Number the fold of each patient, stratified by event."""
    generator = np.random.default_rng(seed)
    fold = np.empty(event.size, dtype=np.int64)
    for stratum in (False, True):
        rows = generator.permutation(np.flatnonzero(event == stratum))
        fold[rows] = np.arange(rows.size) % NUM_FOLDS
    return fold


@cache
def cross_validate() -> np.ndarray:
    """Return Harrell's C and IBS of ridge Cox, and IBS of Kaplan-Meier, per fold."""
    clinical, time_months, event = read_cohort()
    mask = ~np.isnan(clinical)
    rows = []
    for seed in range(NUM_REPEATS):
        fold = draw_folds(event, seed)
        for number in range(NUM_FOLDS):
            fitted, judged = fold != number, fold == number
            outcomes = (time_months[fitted], event[fitted])
            cox = RidgeCox.fit(
                clinical[fitted],
                mask[fitted],
                *outcomes,
                centre=np.nanmean(clinical[fitted], axis=0),
                scale=np.nanstd(clinical[fitted], axis=0),
            )
            average = KaplanMeierBaseline.fit(*outcomes)
            limit = min(time_months[judged].max(), time_months[fitted].max())
            months = brier_window(float(limit))
            patients = (clinical[judged], mask[judged])
            predictions = (
                cox.predict_survival(*patients, months),
                average.predict_survival(int(judged.sum()), months),
            )
            briers = [
                patient_integrated_brier(
                    time_months[judged],
                    event[judged],
                    survival,
                    months,
                    censoring=estimate_censoring(*outcomes),
                ).mean()
                for survival in predictions
            ]
            risk = cox.predict_log_hazard(*patients)
            rows.append([harrell_c(time_months[judged], event[judged], risk), *briers])
    return np.array(rows, dtype=np.float64).mean(axis=0)


def test_ridge_cox_reaches_its_known_concordance() -> None:
    assert cross_validate()[0] == pytest.approx(0.616, abs=0.015)


def test_ridge_cox_reaches_its_known_brier_score() -> None:
    assert cross_validate()[1] == pytest.approx(0.210, abs=0.006)


def test_kaplan_meier_reaches_its_known_brier_score() -> None:
    assert cross_validate()[2] == pytest.approx(0.222, abs=0.006)


def test_always_answering_year_two_is_hard_to_beat() -> None:
    _, time_months, event = read_cohort()
    edges = np.arange(1, 17) * 6.0
    flat = np.full((event.size, 16), 0.9)
    found = temporal_adjacency_accuracy(time_months, event, flat, edges)
    assert found is not None
    assert found.best_constant_year == 2
    assert found.best_constant == pytest.approx(0.833, abs=0.001)
