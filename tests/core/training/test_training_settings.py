from typing import Any

import pytest
from pydantic import ValidationError

from acfnet_core.training.settings import LocalTrainingSettings


@pytest.mark.parametrize("work", [{"local_steps": 3}, {"local_epochs": 3}])
def test_one_measure_of_work_is_enough(work: dict[str, Any]) -> None:
    settings = LocalTrainingSettings.model_validate(work)
    assert settings.model_dump(exclude_unset=True) == work


@pytest.mark.parametrize("work", [{}, {"local_steps": 3, "local_epochs": 3}])
def test_none_or_both_measures_of_work_are_refused(work: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match="give either local_epochs or local_steps"
    ):
        LocalTrainingSettings.model_validate(work)


@pytest.mark.parametrize(
    "change",
    [
        {"local_steps": 0},
        {"local_steps": 1.0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": "0.1"},
        {"weight_decay": -0.1},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": float("inf")},
        {"schedule": "linear"},
        {"warm_up_share": 1.0},
        {"final_share": -0.1},
        {"validation_share": 0.6},
        {"patience": 0},
        {"momentum": 0.9},
    ],
)
def test_a_senseless_setting_is_refused_by_its_name(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        LocalTrainingSettings.model_validate({"local_steps": 1, **change})
    assert [fault["loc"] for fault in caught.value.errors()] == [tuple(change)]
