import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from references.survival_cohorts import Outcomes, exponential_survival

from acfnet_core.evaluation.baselines import RidgeCox
from acfnet_core.evaluation.brier import patient_integrated_brier
from acfnet_core.evaluation.discrimination import (
    cumulative_dynamic_auc,
    harrell_c,
    uno_c,
)
from acfnet_core.evaluation.kaplan_meier import estimate_kaplan_meier
from acfnet_core.evaluation.risk_groups import log_rank_p

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "evaluation.json").read_text("utf-8")
)
EXPECTED: dict[str, Any] = GOLDEN["expected"]
COHORT = Outcomes(
    time_months=np.array(GOLDEN["time_months"]),
    event=np.array(GOLDEN["event"]),
    covariate=np.array(GOLDEN["covariate"]),
    risk=np.array(GOLDEN["risk"]),
)


def test_harrell_c_is_the_golden_one() -> None:
    ours = harrell_c(COHORT.time_months, COHORT.event, COHORT.risk)
    assert ours == pytest.approx(EXPECTED["harrell_c"], abs=1e-6)


def test_uno_c_is_the_golden_one() -> None:
    ours = uno_c(
        COHORT.time_months,
        COHORT.event,
        COHORT.risk,
        train_time_months=COHORT.time_months,
        train_event=COHORT.event,
        tau_months=GOLDEN["tau_months"],
    )
    assert ours == pytest.approx(EXPECTED["uno_c"], abs=1e-6)


def test_auc_is_the_golden_one() -> None:
    ours = cumulative_dynamic_auc(
        COHORT.time_months,
        COHORT.event,
        COHORT.risk,
        train_time_months=COHORT.time_months,
        train_event=COHORT.event,
        at_months=GOLDEN["auc_months"],
    )
    assert ours == pytest.approx(EXPECTED["auc"], abs=1e-6)


def test_integrated_brier_is_the_golden_one() -> None:
    months = np.array(GOLDEN["brier_months"])
    ours = patient_integrated_brier(
        COHORT.time_months,
        COHORT.event,
        exponential_survival(0.03 * np.exp(0.3 * COHORT.risk), months),
        months,
        censoring=COHORT.censoring(),
    ).mean()
    assert ours == pytest.approx(EXPECTED["integrated_brier"], abs=1e-6)


def test_ridge_cox_is_the_golden_one() -> None:
    features = np.stack([COHORT.covariate, COHORT.risk], axis=1)
    model = RidgeCox.fit(
        features,
        np.ones_like(features, dtype=np.bool_),
        COHORT.time_months,
        COHORT.event,
        alpha=GOLDEN["alpha"],
    )
    expected = EXPECTED["ridge_cox_coefficient"]
    assert model.coefficient == pytest.approx(expected, abs=1e-6)


def test_kaplan_meier_and_its_interval_are_the_golden_ones() -> None:
    curve = estimate_kaplan_meier(COHORT.time_months, COHORT.event)
    months = np.array([GOLDEN["auc_months"]])
    low, high = curve.interval_at(months)
    ours = [curve.at(months)[0], low[0], high[0]]
    expected = [EXPECTED["kaplan_meier"], *EXPECTED["kaplan_meier_interval"]]
    assert ours == pytest.approx(expected, abs=1e-6)


def test_log_rank_is_the_golden_one() -> None:
    label = np.arange(COHORT.time_months.size) % 3
    ours = log_rank_p(COHORT.time_months, COHORT.event, label)
    assert ours == pytest.approx(EXPECTED["log_rank_p"], abs=1e-6)
