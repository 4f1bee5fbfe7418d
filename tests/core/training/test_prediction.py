import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort, without_outcome
from references.site_rounds import small_model

from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.dataset import InputBatch, collate_inputs
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedInputs
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training import prediction as prediction_module
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.prediction import (
    PatientPrediction,
    describe_range,
    predict_patient,
)

SEEDS = (4, 5, 6)


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(5, seed=1)


@pytest.fixture(scope="module")
def models() -> tuple[AcfNet, ...]:
    return tuple(small_model(seed=seed) for seed in SEEDS)


@pytest.fixture(scope="module")
def prediction(cohort: PreparedCohort, models: tuple[AcfNet, ...]) -> PatientPrediction:
    return predict_patient(models, cohort, cohort.patients[2])


def test_the_values_are_those_of_the_first_model(
    cohort: PreparedCohort, prediction: PatientPrediction
) -> None:
    whole = predict_cohort(small_model(seed=SEEDS[0]), cohort, loss=LossConfig())
    assert prediction.survival.values == pytest.approx(whole.survival[2], abs=1e-6)


def test_the_range_is_the_lowest_and_the_highest_of_all_models(
    cohort: PreparedCohort, prediction: PatientPrediction
) -> None:
    every = np.stack(
        [
            predict_cohort(small_model(seed=seed), cohort, loss=LossConfig()).survival[
                2
            ]
            for seed in SEEDS
        ]
    )
    assert prediction.survival.lowest == pytest.approx(every.min(axis=0), abs=1e-6)
    assert prediction.survival.highest == pytest.approx(every.max(axis=0), abs=1e-6)


def test_a_patient_is_predicted_the_same_with_an_outcome_or_without(
    cohort: PreparedCohort, models: tuple[AcfNet, ...], prediction: PatientPrediction
) -> None:
    patient = without_outcome(cohort.patients[2])
    said = predict_patient(models, cohort, patient)
    assert np.array_equal(said.survival.values, prediction.survival.values)
    assert np.array_equal(said.risk_maps, prediction.risk_maps)


def test_one_model_gives_no_range(
    cohort: PreparedCohort, models: tuple[AcfNet, ...]
) -> None:
    alone = predict_patient(models[:1], cohort, cohort.patients[2])
    assert alone.hazard.lowest is None
    assert alone.hazard.highest is None
    assert alone.range_words == "one model: no range can be given"


def test_without_competing_death_the_curves_add_up(
    prediction: PatientPrediction,
) -> None:
    total = prediction.survival.values + prediction.cumulative_incidence.values
    assert total == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("num_runs", [1, 3])
def test_a_range_says_its_number_its_kind_and_what_it_is_not(num_runs: int) -> None:
    words = describe_range(num_models=3, num_runs=num_runs)
    kind = "the last rounds of one run" if num_runs == 1 else "from 3 runs"
    assert "3 models" in words
    assert kind in words
    assert "not a confidence interval: it understates" in words


def test_a_model_that_was_training_goes_on_training(cohort: PreparedCohort) -> None:
    model = small_model().train()
    predict_patient([model], cohort, cohort.patients[0])
    assert model.training


def test_known_and_missing_columns_are_the_features(
    cohort: PreparedCohort, prediction: PatientPrediction
) -> None:
    together = {*prediction.known_columns, *prediction.missing_columns}
    assert together == set(cohort.contract.features)


def test_a_column_without_a_value_is_missing(
    cohort: PreparedCohort, models: tuple[AcfNet, ...]
) -> None:
    patient = cohort.patients[0]
    mask = np.ones_like(patient.clinical_mask)
    mask[0] = False
    one = dataclasses.replace(
        cohort, patients=(dataclasses.replace(patient, clinical_mask=mask),)
    )
    said = predict_patient(models, one, one.patients[0])
    assert said.missing_columns == (cohort.contract.features[0],)


def test_an_image_model_reads_no_column(cohort: PreparedCohort) -> None:
    said = predict_patient(
        [small_model(modalities="image")], cohort, cohort.patients[0]
    )
    assert said.known_columns == ()


def test_without_scans_there_is_no_image_and_the_maps_are_zero(
    prediction: PatientPrediction,
) -> None:
    assert not prediction.has_image
    assert not prediction.risk_maps.any()
    assert not prediction.image_share_by_year.any()


@pytest.fixture
def with_scans(
    cohort: PreparedCohort, monkeypatch: pytest.MonkeyPatch
) -> PreparedCohort:
    """A cohort whose patients have two scans that no file holds."""
    contract: DataContract = shipped_contract("crlm")

    def collate_scans(
        asked: PreparedCohort, patients: Sequence[PreparedInputs]
    ) -> InputBatch:
        generator = torch.Generator().manual_seed(9)
        size = (1, 2, 4, *asked.grid_shape)
        return dataclasses.replace(
            collate_inputs(asked, patients),
            scans=torch.rand(size, generator=generator),
            scan_time_months=torch.tensor([[-6.0, 0.0]]),
            scan_mask=torch.ones(1, 2, dtype=torch.bool),
            channel_mask=torch.ones(1, 2, 4, dtype=torch.bool),
        )

    monkeypatch.setattr(prediction_module, "collate_inputs", collate_scans)
    return dataclasses.replace(cohort, contract=contract)


def test_every_map_sums_to_its_year_s_logit(with_scans: PreparedCohort) -> None:
    said = predict_patient([small_model(seed=1)], with_scans, with_scans.patients[0])
    sums = said.risk_maps.sum(axis=(1, 2, 3), dtype=np.float64)
    assert sums == pytest.approx(said.risk_map_sums, rel=1e-4)
    assert said.risk_maps.shape == (len(said.years), *with_scans.grid_shape)


def test_the_gate_of_a_year_is_the_mean_over_its_bins(
    with_scans: PreparedCohort,
) -> None:
    said = predict_patient(
        [small_model(gate="fixed")], with_scans, with_scans.patients[0]
    )
    assert said.has_image
    assert said.image_share_by_year == pytest.approx(np.full(len(said.years), 0.5))


def test_one_virtual_year_gives_one_map_and_one_share(
    with_scans: PreparedCohort,
) -> None:
    said = predict_patient(
        [small_model(virtual_years="one")], with_scans, with_scans.patients[0]
    )
    assert said.years == (8,)
    assert said.image_share_by_year.shape == (1,)


def test_models_with_other_bins_cannot_be_asked_together(
    cohort: PreparedCohort,
) -> None:
    with pytest.raises(ValueError, match="the same time bins, found 2"):
        predict_patient(
            [small_model(), small_model(num_years=4)], cohort, cohort.patients[0]
        )


@pytest.mark.parametrize(("num_models", "num_runs"), [(0, 1), (1, 2), (1, 0)])
def test_fewer_models_than_runs_are_refused(
    cohort: PreparedCohort, num_models: int, num_runs: int
) -> None:
    with pytest.raises(ValueError, match=f"{num_models} models cannot come from"):
        predict_patient(
            [small_model()] * num_models, cohort, cohort.patients[0], num_runs=num_runs
        )
