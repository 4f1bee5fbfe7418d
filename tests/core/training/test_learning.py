"""Does the network learn what it claims? Cohorts whose hazards are known.

Every claim is also put to a network that cannot have learnt it, which must fail. The
full experiments, with several seeds, are `benchmarks/learning.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from references.planted_cohorts import (
    PlantedCohort,
    plant_bright,
    plant_crossing,
    plant_growth,
    plant_proportional,
    with_scan_times,
)
from references.planted_measures import (
    calibration_slope,
    concordance,
    concordance_of,
    cox_survival,
    fit_network,
    kaplan_meier_survival,
    lead_of_column_0,
    mean_gate,
    planted_config,
    pointing_game,
    predict_survival,
    single_scan_ceiling,
    survival_error,
)

from acfnet_core.model.network import AcfNet, build_model

POINTED = 0.6
CROSSING_BIN = 4
"""The first bin behind the 24 months at which the planted hazards cross."""


@dataclass(frozen=True)
class Lesson:
    """A network that was trained, one that was not, and patients new to both."""

    train: PlantedCohort
    fresh: PlantedCohort
    trained: AcfNet
    untrained: AcfNet


def _teach(train: PlantedCohort, fresh: PlantedCohort, *, num_epochs: int) -> Lesson:
    config = planted_config()
    return Lesson(
        train=train,
        fresh=fresh,
        trained=fit_network(train.cohort, config, num_epochs=num_epochs, seed=0),
        untrained=build_model(config, seed=0),
    )


def _error(lesson: Lesson, model: AcfNet) -> float:
    survival = predict_survival(model, lesson.fresh.cohort)
    return survival_error(lesson.fresh, survival)


@pytest.fixture(scope="module")
def proportional(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("proportional")
    train = plant_proportional(folder / "train", 600, seed=0)
    fresh = plant_proportional(folder / "fresh", 2000, seed=100)
    return _teach(train, fresh, num_epochs=12)


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("crossing")
    train = plant_crossing(folder / "train", 600, seed=0)
    fresh = plant_crossing(folder / "fresh", 400, seed=100)
    return _teach(train, fresh, num_epochs=20)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("bright")
    effects = {"image_effect": 3.0, "column_effect": 0.0}
    train = plant_bright(folder / "train", 400, seed=0, **effects)
    fresh = plant_bright(folder / "fresh", 300, seed=100, **effects)
    return _teach(train, fresh, num_epochs=15)


@pytest.fixture(scope="module")
def columns_alone(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("columns")
    effects = {"image_effect": 0.0, "column_effect": 1.0}
    train = plant_bright(folder / "train", 200, seed=0, **effects)
    fresh = plant_bright(folder / "fresh", 200, seed=100, **effects)
    return _teach(train, fresh, num_epochs=8)


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("growth")
    train = plant_growth(folder / "train", 400, seed=0, image_effect=4.0)
    fresh = plant_growth(folder / "fresh", 300, seed=100, image_effect=4.0)
    return _teach(train, fresh, num_epochs=20)


def test_survival_of_fresh_patients_is_near_the_true_one(proportional: Lesson) -> None:
    assert _error(proportional, proportional.trained) < 0.07


def test_an_untrained_network_and_kaplan_meier_are_far_from_the_true_survival(
    proportional: Lesson,
) -> None:
    train, fresh = proportional.train, proportional.fresh
    assert _error(proportional, proportional.untrained) > 0.14
    assert survival_error(fresh, kaplan_meier_survival(train, fresh)) > 0.14


def test_predictions_are_neither_too_far_apart_nor_too_close(
    proportional: Lesson,
) -> None:
    fresh = proportional.fresh
    slopes = [
        calibration_slope(predict_survival(model, fresh.cohort), fresh.true_survival)
        for model in (proportional.trained, proportional.untrained)
    ]
    assert 0.8 < slopes[0] < 1.2
    assert not 0.8 < slopes[1] < 1.2


def test_hazards_cross_in_the_right_half_year(crossing: Lesson) -> None:
    fresh = crossing.fresh
    lead = lead_of_column_0(fresh, predict_survival(crossing.trained, fresh.cohort))
    assert (lead[:CROSSING_BIN] > 0).all()
    assert (lead[CROSSING_BIN:] < 0).all()


def test_the_true_hazards_cross_there_and_those_of_cox_nowhere(
    crossing: Lesson,
) -> None:
    true = lead_of_column_0(crossing.fresh, crossing.fresh.true_survival)
    cox = lead_of_column_0(crossing.fresh, cox_survival(crossing.train, crossing.fresh))
    assert (true[:CROSSING_BIN] > 0).all()
    assert (true[CROSSING_BIN:] < 0).all()
    assert (cox >= 0).all() or (cox <= 0).all()


def test_crossing_curves_are_nearer_to_the_true_ones_than_those_of_cox(
    crossing: Lesson,
) -> None:
    train, fresh = crossing.train, crossing.fresh
    cox = survival_error(fresh, cox_survival(train, fresh))
    untrained = _error(crossing, crossing.untrained)
    assert _error(crossing, crossing.trained) < 0.7 * min(cox, untrained)


def test_growth_is_seen_beyond_what_any_single_scan_can_tell(growth: Lesson) -> None:
    both = concordance_of(growth.trained, growth.fresh)
    assert both > single_scan_ceiling(growth.fresh) + 0.015
    assert concordance_of(growth.untrained, growth.fresh) < 0.6


def test_without_the_earlier_scan_growth_is_not_seen(growth: Lesson) -> None:
    last = with_scan_times(growth.fresh.cohort, kept=slice(-1, None))
    survival = predict_survival(growth.trained, last)
    ceiling = single_scan_ceiling(growth.fresh)
    assert concordance(growth.fresh, survival) < ceiling + 0.03


def test_growth_is_read_as_shrinkage_when_the_times_are_swapped(
    growth: Lesson,
) -> None:
    swapped = with_scan_times(growth.fresh.cohort, swapped=True)
    assert concordance(growth.fresh, predict_survival(growth.trained, swapped)) < 0.4


def test_the_gate_moves_to_the_images_where_they_alone_inform(
    growth: Lesson, bright: Lesson
) -> None:
    for lesson in (growth, bright):
        assert mean_gate(lesson.untrained, lesson.fresh.cohort) == 0.5
    assert mean_gate(growth.trained, growth.fresh.cohort) > 0.6
    # A larger logit does the work of an open gate, and does it sooner.
    assert mean_gate(bright.trained, bright.fresh.cohort) > 0.52


def test_the_gate_moves_to_the_columns_where_they_alone_inform(
    columns_alone: Lesson,
) -> None:
    assert mean_gate(columns_alone.trained, columns_alone.fresh.cohort) < 0.35


def test_maps_point_at_the_lesion_that_drives_the_hazard(bright: Lesson) -> None:
    score = pointing_game(bright.trained, bright.fresh)
    assert score.driver > POINTED
    assert score.interval[0] > score.chance
    assert score.decoy < score.chance


def test_maps_of_who_has_not_learnt_it_do_not_point_there(
    columns_alone: Lesson, bright: Lesson
) -> None:
    for model in (columns_alone.trained, bright.untrained):
        assert pointing_game(model, bright.fresh).driver < POINTED


def test_of_permuted_outcomes_nothing_is_learnt(
    proportional: Lesson, tmp_path: Path
) -> None:
    cohort = plant_proportional(tmp_path, 1200, seed=5).permuted(seed=6)
    train, fresh = cohort.part(slice(0, 300)), cohort.part(slice(300, None))
    model = fit_network(train.cohort, planted_config(), num_epochs=10, seed=0)
    # 900 patients leave a standard error of about 0.012.
    assert abs(concordance_of(model, fresh) - 0.5) < 0.04
    assert concordance_of(proportional.trained, proportional.fresh) > 0.65


def test_permuting_outcomes_keeps_them_and_the_patients(tmp_path: Path) -> None:
    planted = plant_proportional(tmp_path, 50, seed=0)
    permuted = planted.permuted(seed=1)
    assert sorted(permuted.time_months) == sorted(planted.time_months)
    assert np.array_equal(permuted.columns, planted.columns)
    assert not np.array_equal(permuted.time_months, planted.time_months)
