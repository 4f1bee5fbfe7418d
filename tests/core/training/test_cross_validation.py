"""Cross-validation: the same folds for all models, and the bar that Cox sets."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from references.cohorts import make_cohort
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.splits import draw_folds
from acfnet_core.evaluation.baselines import FONG_SCORE, KAPLAN_MEIER, RIDGE_COX
from acfnet_core.model.config import MODEL_NAME, AcfNetConfig
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.cross_validation import (
    FoldFinished,
    cross_validate,
    mean_predictions,
    spread_of,
)
from acfnet_core.training.settings import LocalTrainingSettings

TABLE = SHARED_DATA / "crlm/clinical.csv"
needs_table = pytest.mark.skipif(
    not TABLE.exists(), reason="the public clinical table is not on this machine"
)


@pytest.fixture(scope="module")
def public_cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    folder = tmp_path_factory.mktemp("public")
    contract = shipped_contract("crlm").without_imaging()
    sources = CohortSources(clinical_table=TABLE)
    for _ in prepare_cohort(contract, sources, folder, pseudonym_key=bytes(32)):
        pass
    return open_store(folder, contract=contract)


def run(
    cohort: PreparedCohort, *, epochs: int = 1, num_repeats: int = 1, seed: int = 0
) -> list[FoldFinished]:
    return list(
        cross_validate(
            cohort,
            config=AcfNetConfig(
                num_clinical_features=cohort.contract.num_clinical_features
            ),
            settings=LocalTrainingSettings(local_epochs=epochs),
            loss=LossConfig(),
            num_repeats=num_repeats,
            seed=seed,
        )
    )


@cache
def made_up_folds(seed: int = 0) -> Sequence[FoldFinished]:
    return run(make_cohort(40, seed=1), seed=seed)


def test_every_patient_is_judged_once_in_a_repeat() -> None:
    judged = np.concatenate([fold.judged for fold in made_up_folds()])
    assert sorted(judged.tolist()) == list(range(40))


def test_the_same_seed_gives_the_same_bits() -> None:
    again = run(make_cohort(40, seed=1))
    for one, other in zip(made_up_folds(), again, strict=True):
        for name, survival in one.survival.items():
            assert np.array_equal(survival, other.survival[name])


def test_another_seed_gives_other_folds() -> None:
    first, other = made_up_folds()[0], made_up_folds(1)[0]
    assert not np.array_equal(first.judged, other.judged)


def test_mean_predictions_stand_where_the_patient_does() -> None:
    folds = made_up_folds()
    mean = mean_predictions(folds, 40)[MODEL_NAME]
    for fold in folds:
        assert np.array_equal(mean[fold.judged], fold.survival[MODEL_NAME])


def test_mean_predictions_of_part_of_a_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="leave a patient out"):
        mean_predictions(made_up_folds()[:3], 40)


def test_mean_predictions_of_no_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="no folds"):
        mean_predictions([], 40)


def test_a_spread_leaves_out_where_the_figure_is_not_defined() -> None:
    spread = spread_of([0.5, None, 0.7])
    assert spread.num_folds == 2
    assert spread.mean == pytest.approx(0.6)
    assert spread.standard_deviation == pytest.approx(np.std([0.5, 0.7], ddof=1))


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no fold"):
        spread_of([None, None])


def test_folds_have_equal_shares_of_events() -> None:
    events = np.arange(50) < 20
    fold = draw_folds(events, num_folds=5, seed=3)
    assert [int(events[fold == number].sum()) for number in range(5)] == [4] * 5
    assert np.bincount(fold).tolist() == [10] * 5


@pytest.mark.parametrize("num_folds", [1, 11])
def test_folds_that_do_not_fit_are_refused(num_folds: int) -> None:
    with pytest.raises(ValueError, match="num_folds"):
        draw_folds(np.ones(10, dtype=bool), num_folds=num_folds, seed=0)


@needs_table
def test_the_network_does_not_lose_to_cox_in_the_same_folds(
    public_cohort: PreparedCohort,
) -> None:
    folds = run(public_cohort, epochs=6, num_repeats=2, seed=7)

    def mean(name: str, figure: str) -> float:
        return spread_of([getattr(fold.scores[name], figure) for fold in folds]).mean

    brier, concordance = "integrated_brier", "harrell_c"
    assert mean(MODEL_NAME, brier) <= mean(RIDGE_COX, brier) + 0.005
    assert mean(MODEL_NAME, concordance) >= mean(RIDGE_COX, concordance) - 0.02
    assert mean(MODEL_NAME, concordance) > mean(FONG_SCORE, concordance)
    assert mean(MODEL_NAME, brier) < mean(KAPLAN_MEIER, brier)


@needs_table
def test_permuted_outcomes_leave_nothing_to_predict(
    public_cohort: PreparedCohort,
) -> None:
    means = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(public_cohort.patients))
        donors = [public_cohort.patients[index] for index in order]
        permuted = [
            replace(patient, time_months=donor.time_months, event=donor.event)
            for patient, donor in zip(public_cohort.patients, donors, strict=True)
        ]
        folds = run(replace(public_cohort, patients=tuple(permuted)), epochs=4)
        means.append(spread_of([f.scores[MODEL_NAME].harrell_c for f in folds]).mean)
    # One repeat's mean has a standard error of about .027 at 138 events.
    assert np.mean(means) == pytest.approx(0.5, abs=0.05)
