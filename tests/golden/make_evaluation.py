"""Write evaluation.json: one made-up cohort by scikit-survival and lifelines.

Run from the project's root: `PYTHONPATH=tests python tests/golden/make_evaluation.py`.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from references.survival_cohorts import Outcomes, exponential_survival, make_outcomes
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)

TAU_MONTHS = 40.0
AUC_MONTHS = 12.0
ALPHA = 2.0
NUM_PATIENTS = 36


def compute(cohort: Outcomes, months: np.ndarray) -> dict[str, Any]:
    """Compute every figure by the reference packages."""
    structured = cohort.structured()
    survival = exponential_survival(0.03 * np.exp(0.3 * cohort.risk), months)
    fitter = KaplanMeierFitter().fit(cohort.time_months, cohort.event)
    low, high = fitter.confidence_interval_.loc[:AUC_MONTHS].iloc[-1]
    thirds = np.arange(NUM_PATIENTS) % 3
    test = multivariate_logrank_test(cohort.time_months, thirds, cohort.event)
    cox = CoxPHSurvivalAnalysis(alpha=ALPHA, tol=1e-12)
    cox.fit(np.stack([cohort.covariate, cohort.risk], axis=1), structured)
    uno = concordance_index_ipcw(structured, structured, cohort.risk, tau=TAU_MONTHS)
    auc = cumulative_dynamic_auc(structured, structured, cohort.risk, [AUC_MONTHS])
    harrell = concordance_index_censored(cohort.event, cohort.time_months, cohort.risk)
    return {
        "harrell_c": float(harrell[0]),
        "uno_c": float(uno[0]),
        "auc": float(auc[0][0]),
        "integrated_brier": float(
            integrated_brier_score(structured, structured, survival, months)
        ),
        "ridge_cox_coefficient": cox.coef_.tolist(),
        "kaplan_meier": float(fitter.survival_function_at_times(AUC_MONTHS).iloc[0]),
        "kaplan_meier_interval": [float(low), float(high)],
        "log_rank_p": float(test.p_value),
    }


def main() -> None:
    """Draw the cohort and write it with its figures."""
    cohort = make_outcomes(81, NUM_PATIENTS, censored_after=60.0)
    months = np.arange(6.0, 31.0)
    document = {
        "made_with": {
            name: version(name) for name in ("scikit-survival", "lifelines", "numpy")
        },
        "tau_months": TAU_MONTHS,
        "auc_months": AUC_MONTHS,
        "alpha": ALPHA,
        "brier_months": months.tolist(),
        "time_months": cohort.time_months.tolist(),
        "event": cohort.event.tolist(),
        "covariate": cohort.covariate.tolist(),
        "risk": cohort.risk.tolist(),
        "expected": compute(cohort, months),
    }
    path = Path(__file__).with_name("evaluation.json")
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
