"""A model trained in one place, beside which a federation is judged."""

from typing import Any

import numpy as np
import torch
from references.cohorts import make_cohort
from references.site_rounds import small_config

from acfnet_core.federation.parameters import FlatParameters, flatten
from acfnet_core.model.network import build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.central_training import (
    CentralModel,
    steps_of_run,
    train_centrally,
)
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.settings import LocalTrainingSettings

COHORT = make_cohort(30, seed=1)
CONFIG = small_config(COHORT.contract.num_clinical_features, dropout=0.2)


def train(
    *, num_steps: int = 3, seed: int = 4, name: str = "pooled", **work: Any
) -> CentralModel:
    settings = LocalTrainingSettings(local_epochs=9, batch_size=8, **work)
    return train_centrally(
        COHORT,
        config=CONFIG,
        settings=settings,
        loss=LossConfig(),
        num_steps=num_steps,
        seed=seed,
        name=name,
        device=torch.device("cpu"),
    )


def parameters(trained: CentralModel) -> FlatParameters:
    return flatten(model_arrays(trained.model))


def test_it_takes_the_steps_it_is_given_whatever_a_round_has() -> None:
    assert train(num_steps=5).num_steps == 5


def test_the_same_seed_gives_the_same_bits() -> None:
    np.testing.assert_array_equal(parameters(train()), parameters(train()))


def test_it_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    train()
    assert torch.equal(before, torch.get_rng_state())


def test_another_cohort_name_orders_the_patients_otherwise() -> None:
    assert (parameters(train()) != parameters(train(name="other"))).any()


def test_it_begins_with_the_first_model_of_the_run() -> None:
    still = train(num_steps=1, learning_rate=1e-12, weight_decay=0.0)
    first = flatten(model_arrays(build_model(CONFIG, seed=4)))
    np.testing.assert_allclose(parameters(still), first, atol=1e-10)


def test_a_site_takes_its_passes_times_the_rounds() -> None:
    settings = LocalTrainingSettings(local_epochs=2, batch_size=8)
    assert steps_of_run(settings, 30, num_rounds=5) == 5 * 2 * 4


def test_a_fixed_number_of_steps_does_not_depend_on_the_patients() -> None:
    settings = LocalTrainingSettings(local_steps=7)
    assert steps_of_run(settings, 30, num_rounds=5) == 35


def test_the_validation_part_takes_no_steps() -> None:
    settings = LocalTrainingSettings(local_epochs=1, batch_size=8, validation_share=0.5)
    assert steps_of_run(settings, 32, num_rounds=1) == 2
