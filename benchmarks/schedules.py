"""How the learning rate should go: schedules in the same cross-validation.

    python benchmarks/schedules.py clinical.csv --write benchmarks/schedules.md

The table is that of TCIA Colorectal-Liver-Metastases (doi:10.7937/QXK2-QG03), its
pre-operative columns alone. About twenty minutes on one core.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from cross_validation import NUM_FOLDS, SEED, Head, figures, run, write_page

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.model.config import MODEL_NAME, AcfNetConfig
from acfnet_core.objective.loss import survival_loss
from acfnet_core.objective.time_bins import discretise_times
from acfnet_core.training.cross_validation import FoldFinished

STEPS = (60, 120, 240)
RATES = (1e-3, 2e-3)
WARM_UP = 0.05
WARM_UPS = (0.0, 0.05, 0.2)
LONGEST = STEPS[-1]


def likelihood_of(cohort: PreparedCohort, folds: Sequence[FoldFinished]) -> list[float]:
    """Return each repeat's mean negative log-likelihood over the held-out patients."""
    config = AcfNetConfig(num_clinical_features=cohort.contract.num_clinical_features)
    losses: dict[int, list[float]] = {}
    for fold in folds:
        survival = torch.from_numpy(fold.survival[MODEL_NAME]).double()
        before = torch.cat([torch.ones_like(survival[:, :1]), survival[:, :-1]], dim=1)
        judged = [cohort.patients[row] for row in fold.judged]
        time_bin, kind = discretise_times(
            torch.tensor([patient.time_months for patient in judged]),
            torch.tensor([patient.event for patient in judged]),
            num_bins=config.num_bins,
            bin_width_months=config.bin_width_months,
        )
        each = survival_loss((1 - survival / before).logit(), time_bin, kind)
        losses.setdefault(fold.repeat, []).extend(each.tolist())
    return [float(np.mean(values)) for values in losses.values()]


def measure(cohort: PreparedCohort, num_repeats: int, **training: Any) -> list[str]:
    """Return the cells of one setting: likelihood and its spread, concordance."""
    folds = run(
        cohort,
        Head(training={"local_epochs": None, **training}),
        num_repeats=num_repeats,
        seed=SEED,
    )
    likelihood = likelihood_of(cohort, folds)
    return [
        f"{np.mean(likelihood):.3f} ({np.std(likelihood, ddof=1):.3f})",
        f"{figures(folds, MODEL_NAME)[0].mean:.3f}",
    ]


def tell(cohort: PreparedCohort, num_repeats: int) -> Iterator[str]:
    """Yield the page."""
    yield "# Schedules of the learning rate, on the public table\n"
    yield (
        "`python benchmarks/schedules.py clinical.csv --write "
        "benchmarks/schedules.md`\n"
    )
    yield (
        f"{len(cohort.patients)} patients, pre-operative columns alone, size tiny, "
        f"{num_repeats} x {NUM_FOLDS} folds, the same for all; batches of 8. Held-out "
        "negative log-likelihood a patient, less is better, with the standard "
        "deviation over the repeats, and Harrell's C.\n"
    )
    yield "| highest rate | steps | constant | C | cosine, warm-up .05 | C |"
    yield "|---|---|---|---|---|---|"
    for rate in RATES:
        for steps in STEPS:
            same = {"learning_rate": rate, "local_steps": steps}
            constant = measure(cohort, num_repeats, **same)
            cosine = measure(
                cohort, num_repeats, **same, schedule="cosine", warm_up_share=WARM_UP
            )
            yield f"| {rate:g} | {steps} | {' | '.join(constant + cosine)} |"
    yield "\n| warm-up of a cosine at 2e-3, 120 steps | likelihood | C |"
    yield "|---|---|---|"
    for share in WARM_UPS:
        cells = measure(
            cohort,
            num_repeats,
            learning_rate=2e-3,
            local_steps=120,
            schedule="cosine",
            warm_up_share=share,
        )
        yield f"| {share:g} | {' | '.join(cells)} |"
    yield f"\n| {LONGEST} steps, stopped early on a fifth | likelihood | C |"
    yield "|---|---|---|"
    for name, setting in {
        "constant at 1e-3": {"learning_rate": 1e-3},
        "cosine at 2e-3": {"learning_rate": 2e-3, "schedule": "cosine"},
    }.items():
        cells = measure(
            cohort,
            num_repeats,
            local_steps=LONGEST,
            validation_share=0.2,
            **setting,
        )
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    write_page(tell, num_repeats=6)
