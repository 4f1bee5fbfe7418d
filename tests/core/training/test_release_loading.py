import json
from pathlib import Path

import pytest
import torch
from references.cohorts import make_cohort
from references.site_rounds import small_model

from acfnet_core.errors import DataError
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.federation.release import DESCRIPTION_FILE, save_release
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.release import load_ensemble, load_model


@pytest.fixture
def release(tmp_path: Path) -> Path:
    model = small_model(seed=4)
    save_release(
        tmp_path,
        model_arrays(model),
        run="run-1",
        model=model.config.model_dump(mode="json"),
        contract_sha256="c" * 64,
    )
    return tmp_path


def _describe(release: Path, **changes: object) -> None:
    path = release / DESCRIPTION_FILE
    content = json.loads(path.read_bytes())
    content["model"] |= changes
    path.write_text(json.dumps(content))


def test_a_released_model_has_the_parameters_it_was_saved_with(release: Path) -> None:
    loaded = load_model(release)
    for name, parameter in small_model(seed=4).named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name)), name


def test_a_released_model_predicts_what_it_predicted_before(release: Path) -> None:
    cohort = make_cohort(5, seed=1)
    before = predict_cohort(small_model(seed=4), cohort, loss=LossConfig())
    after = predict_cohort(load_model(release), cohort, loss=LossConfig())
    assert before.survival.tobytes() == after.survival.tobytes()


def test_a_released_model_is_ready_to_predict(release: Path) -> None:
    assert not load_model(release).training


@pytest.mark.parametrize(
    "changes", [{"channels": 16}, {"channels": 9}, {"colour": "red"}, {"num_years": 4}]
)
def test_a_description_of_another_network_is_refused(
    release: Path, changes: dict[str, object]
) -> None:
    _describe(release, **changes)
    with pytest.raises(DataError, match="the model cannot be built") as caught:
        load_model(release)
    assert caught.value.code == "data.store_damaged"


def test_an_absent_release_is_a_path_not_found(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "model")
    assert caught.value.code == "data.path_not_found"


def test_an_ensemble_is_the_final_model_and_then_the_members(tmp_path: Path) -> None:
    models = {number: small_model(seed=number) for number in (3, 1, 2)}
    save_release(
        tmp_path,
        model_arrays(models[3]),
        run="run-1",
        model=models[3].config.model_dump(mode="json"),
        contract_sha256="c" * 64,
        members={number: model_arrays(models[number]) for number in (2, 1)},
    )
    loaded = load_ensemble(tmp_path)
    hashes = [sha256_of(flatten(model_arrays(model))) for model in loaded]
    expected = [sha256_of(flatten(model_arrays(models[n]))) for n in (3, 1, 2)]
    assert hashes == expected
    assert not any(model.training for model in loaded)


def test_an_ensemble_without_members_is_the_model_alone(release: Path) -> None:
    assert len(load_ensemble(release)) == 1
