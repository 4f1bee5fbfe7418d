"""Repeated cross-validation of the clinical columns of the public cohort.

    python benchmarks/cross_validation.py clinical.csv --write benchmarks/...md

The table is that of TCIA Colorectal-Liver-Metastases (doi:10.7937/QXK2-QG03). Every
model is trained and judged in the same folds. About a second a fold.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.evaluation.baselines import RIDGE_COX
from acfnet_core.evaluation.judge import judge
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.model.config import MODEL_NAME, AcfNetConfig
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.cross_validation import (
    FoldFinished,
    cross_validate,
    mean_predictions,
    spread_of,
)
from acfnet_core.training.reproducibility import make_deterministic
from acfnet_core.training.settings import LocalTrainingSettings

NUM_FOLDS = 5
SEED = 20
LOCAL_EPOCHS = 6


@dataclass(frozen=True, kw_only=True)
class Head:
    """A setting of the network or its training that is compared with the default."""

    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


HEADS = {
    "as shipped": Head(),
    "without the image branch": Head(model={"modalities": "clinical"}),
    "no Transformer layer": Head(model={"num_fusion_layers": 0}),
    "two Transformer layers": Head(model={"num_fusion_layers": 2}),
    "tokens of 16 features": Head(model={"token_width": 16}),
    "no dropout": Head(model={"dropout": 0.0, "token_dropout": 0.0}),
    "yearly bins": Head(model={"bins_per_year": 1}),
    "cosine with warm-up": Head(training={"schedule": "cosine", "warm_up_share": 0.05}),
    "half as long": Head(training={"local_epochs": LOCAL_EPOCHS // 2}),
    "twice as long": Head(training={"local_epochs": 2 * LOCAL_EPOCHS}),
    "early stopping on a fifth, at most 20 passes": Head(
        training={"local_epochs": 20, "validation_share": 0.2}
    ),
}


def load_cohort(table: Path, folder: Path) -> PreparedCohort:
    """Prepare the table as a site does."""
    contract = shipped_contract("crlm").without_imaging()
    sources = CohortSources(clinical_table=table)
    for _ in prepare_cohort(contract, sources, folder, pseudonym_key=bytes(32)):
        pass
    return open_store(folder, contract=contract)


def run(
    cohort: PreparedCohort, head: Head, *, num_repeats: int, seed: int
) -> list[FoldFinished]:
    """Cross-validate one setting."""
    counted = {"num_clinical_features": cohort.contract.num_clinical_features}
    return list(
        cross_validate(
            cohort,
            config=AcfNetConfig.model_validate({**counted, **head.model}),
            settings=LocalTrainingSettings.model_validate(
                {"local_epochs": LOCAL_EPOCHS, **head.training}
            ),
            loss=LossConfig(),
            num_folds=NUM_FOLDS,
            num_repeats=num_repeats,
            seed=seed,
        )
    )


def permuted(cohort: PreparedCohort, seed: int) -> PreparedCohort:
    """Give every patient the outcome of another one, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(cohort.patients))
    donors = [cohort.patients[index] for index in order]
    patients = [
        replace(patient, time_months=donor.time_months, event=donor.event)
        for patient, donor in zip(cohort.patients, donors, strict=True)
    ]
    return replace(cohort, patients=tuple(patients))


def judge_out_of_fold(cohort: PreparedCohort, folds: Sequence[FoldFinished]) -> Verdict:
    """Judge each patient's mean out-of-fold curve, with a bootstrap over patients."""
    config = AcfNetConfig(num_clinical_features=cohort.contract.num_clinical_features)
    outcomes = {
        "time_months": np.array([p.time_months for p in cohort.patients]),
        "event": np.array([p.event == 1 for p in cohort.patients]),
    }
    return judge(
        **outcomes,
        predictions=mean_predictions(folds, len(cohort.patients)),
        bin_edges_months=np.array(config.bin_edges_months),
        train_time_months=outcomes["time_months"],
        train_event=outcomes["event"],
    )


def tell_folds(folds: Sequence[FoldFinished]) -> Iterator[str]:
    """Yield the table of all models' spread over the folds."""
    yield "| model | Harrell's C, mean (SD over folds) | IBS, mean (SD over folds) |"
    yield "|---|---|---|"
    for name in folds[0].scores:
        concordance, brier = figures(folds, name)
        yield (
            f"| {name} | {concordance.mean:.3f} ({concordance.standard_deviation:.3f}) "
            f"| {brier.mean:.4f} ({brier.standard_deviation:.4f}) |"
        )


def figures(folds: Sequence[FoldFinished], name: str) -> tuple[Any, Any]:
    """Return the spread of one model's concordance and integrated Brier score."""
    return (
        spread_of([fold.scores[name].harrell_c for fold in folds]),
        spread_of([fold.scores[name].integrated_brier for fold in folds]),
    )


def tell_differences(verdict: Verdict) -> Iterator[str]:
    """Yield the table of paired differences."""
    yield "| network minus | figure | difference (95 % interval) |"
    yield "|---|---|---|"
    for one in verdict.differences:
        found = one.interval
        if found is not None and found.low is not None and found.high is not None:
            yield (
                f"| {one.reference} | {one.metric} | {found.estimate:+.4f} "
                f"({found.low:+.4f} to {found.high:+.4f}) |"
            )


def tell_heads(cohort: PreparedCohort, num_repeats: int) -> Iterator[str]:
    """Yield the table of settings, each against ridge Cox in the same folds."""
    yield "| setting | Harrell's C | minus ridge Cox's | IBS | minus ridge Cox's |"
    yield "|---|---|---|---|---|"
    for name, head in HEADS.items():
        folds = run(cohort, head, num_repeats=num_repeats, seed=SEED + 1)
        (own_c, own_b), (cox_c, cox_b) = (
            figures(folds, MODEL_NAME),
            figures(folds, RIDGE_COX),
        )
        yield (
            f"| {name} | {own_c.mean:.4f} | {own_c.mean - cox_c.mean:+.4f} | "
            f"{own_b.mean:.4f} | {own_b.mean - cox_b.mean:+.4f} |"
        )


def tell_permuted(cohort: PreparedCohort, num_repeats: int) -> str:
    """Return a sentence on what is found where there is nothing to find."""
    means = []
    for repeat in range(num_repeats):
        folds = run(permuted(cohort, repeat), Head(), num_repeats=1, seed=SEED + repeat)
        means.append(figures(folds, MODEL_NAME)[0].mean)
    return (
        f"With outcomes permuted among the patients, {num_repeats} times: Harrell's C "
        f"{np.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}."
    )


def tell(cohort: PreparedCohort, num_repeats: int) -> Iterator[str]:
    """Yield the page."""
    events = sum(patient.event for patient in cohort.patients)
    folds = run(cohort, Head(), num_repeats=num_repeats, seed=SEED)
    yield "# Cross-validation on the public cohort, clinical columns alone\n"
    yield (
        "`python benchmarks/cross_validation.py clinical.csv --write "
        "benchmarks/cross-validation.md`\n"
    )
    yield (
        f"{len(cohort.patients)} patients, {events} events (disease-free survival), "
        f"{cohort.contract.num_clinical_features} pre-operative columns; "
        f"{num_repeats} x {NUM_FOLDS} folds, stratified by event, the same for all "
        f"models; {LOCAL_EPOCHS} passes with the settings as shipped; IBS over 6 to 96 "
        f"months, weighted by the training patients' censoring.\n"
    )
    yield from tell_folds(folds)
    yield (
        "\nThe spread is over folds, which share patients: it is no interval of the "
        "mean. Below, every patient's out-of-fold curves are averaged over the repeats "
        "and the patients are resampled 1000 times.\n"
    )
    yield from tell_differences(judge_out_of_fold(cohort, folds))
    yield f"\n## Settings\n\n{max(2, num_repeats // 2)} x {NUM_FOLDS} other folds.\n"
    yield from tell_heads(cohort, max(2, num_repeats // 2))
    yield "\n## Nothing to find\n"
    yield tell_permuted(cohort, num_repeats)


def write_page(
    tell_page: Callable[[PreparedCohort, int], Iterator[str]], *, num_repeats: int
) -> None:
    """Run a benchmark of the public table, as the command line asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path, help="the cohort's clinical.csv")
    parser.add_argument("--repeats", type=int, default=num_repeats)
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    make_deterministic(num_threads=1)
    torch.set_num_interop_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cohort = load_cohort(options.table, Path(folder) / "prepared")
        text = "\n".join(tell_page(cohort, options.repeats)) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    write_page(tell, num_repeats=10)
