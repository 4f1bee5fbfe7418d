import json
from pathlib import Path

import pytest

from acf_server.run_config import RunConfig, read_run_config, resolve_plan
from acf_server.run_plan import RunPlan, read_plan, write_plan
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.errors import ConfigError
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.settings import LocalTrainingSettings

CONTRACT = shipped_contract("crlm")
KEYS = {"hospital-a": "key of a", "hospital-b": "key of b"}
RUN = """
[run]
name = "first"
study = "Disease-free survival"
sites = ["hospital-a", "hospital-b"]
rounds = 5
seed = 3

[model]
size = "small"
dropout = 0.1

[loss]
alignment = 0.2

[training]
local_epochs = 1
"""


def read(folder: Path, text: str = RUN) -> RunConfig:
    path = folder / "run.toml"
    path.write_text(text)
    return read_run_config(path)


def fault_of(folder: Path, old: str, new: str) -> str:
    assert old in RUN
    with pytest.raises(ConfigError) as caught:
        resolve_plan(read(folder, RUN.replace(old, new)), CONTRACT, KEYS)
    assert caught.value.code == "config.invalid"
    return caught.value.message


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return resolve_plan(read(tmp_path), CONTRACT, KEYS)


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    text = RUN.replace("rounds = 5", "rounds = 0\ncolour = 1").replace(
        "local_epochs = 1", 'batch_size = "8"'
    )
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    places = ("run.rounds", "run.colour", "training.batch_size")
    assert [place for place in places if place not in caught.value.message] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 3", "sed = 3", "run.sed"),
        ("[loss]", "[losses]", "losses"),
        ('"hospital-b"', '"hospital-a"', "a site is named twice"),
        ('["hospital-a", "hospital-b"]', "[]", "run.sites"),
        ("seed = 3", "minimum_sites = 3", "minimum_sites is 3, of 2 sites"),
        ("seed = 3", "minimum_sites = 0", "run.minimum_sites"),
        ("seed = 3", "round_timeout_s = inf", "run.round_timeout_s"),
        ("seed = 3", "seed = -1", "run.seed"),
        ("seed = 3", 'seed = "3"', "run.seed"),
        ('name = "first"', 'name = "../first"', "run.name"),
        ("local_epochs = 1", "", "either local_epochs or local_steps"),
        ("local_epochs = 1", "local_epochs = 1\nlocal_steps = 2", "local_epochs"),
        ("local_epochs = 1", "local_epochs = 1\n[strategy]\nmax_share = 0", "share"),
        ("local_epochs = 1", "local_epochs = 1\n[strategy]\nname = 'x'", "strategy"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    message = fault_of(tmp_path, old, new)
    assert words in message
    assert str(tmp_path / "run.toml") in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('size = "small"', 'size = "huge"', "[model]: size"),
        ("dropout = 0.1", "dropout = 1.5", "[model]: dropout"),
        ("dropout = 0.1", "drop = 0.1", "[model]: drop"),
        ("dropout = 0.1", "num_clinical_features = 2", "num_clinical_features"),
        ("alignment = 0.2", "alignment = -1", "[loss]: alignment"),
        ("alignment = 0.2", "aligned = 1", "[loss]: aligned"),
    ],
)
def test_a_fault_of_the_model_or_the_loss_names_its_section(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert words in fault_of(tmp_path, old, new)


def test_the_contract_decides_the_number_of_columns(plan: RunPlan) -> None:
    assert plan.model["num_clinical_features"] == CONTRACT.num_clinical_features


def test_the_resolved_model_is_stated_in_full(plan: RunPlan) -> None:
    assert set(plan.model) == set(AcfNetConfig.model_fields)
    assert (plan.model["size"], plan.model["channels"]) == ("small", 40)


def test_the_resolved_loss_and_training_are_stated_in_full(plan: RunPlan) -> None:
    assert set(plan.loss) == set(LossConfig.model_fields)
    assert set(plan.training) == set(LocalTrainingSettings.model_fields)


def test_every_site_must_answer_unless_the_run_says_otherwise(plan: RunPlan) -> None:
    assert plan.minimum_sites == 2


def test_a_run_may_need_fewer_sites_than_it_has(tmp_path: Path) -> None:
    config = read(tmp_path, RUN.replace("seed = 3", "minimum_sites = 1"))
    assert resolve_plan(config, CONTRACT, KEYS).minimum_sites == 1


def test_the_plan_holds_every_sites_key(plan: RunPlan) -> None:
    assert {site.name: site.public_key_pem for site in plan.sites} == KEYS


def test_a_stored_plan_is_read_again(plan: RunPlan, tmp_path: Path) -> None:
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(tmp_path)
    assert caught.value.code == "config.run_not_found"


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"rounds": 0}')
    with pytest.raises(ConfigError, match="rounds"):
        read_plan(tmp_path)


def test_a_landmark_is_carried_into_the_plan(tmp_path: Path) -> None:
    text = RUN.replace("seed = 3", "seed = 3\nlandmark_months = 12")
    assert resolve_plan(read(tmp_path, text), CONTRACT, KEYS).landmark_months == 12.0


def test_a_run_without_a_landmark_counts_from_the_resection(plan: RunPlan) -> None:
    assert plan.landmark_months is None


@pytest.mark.parametrize("months", ["-25", "97", '"12"', "nan"])
def test_a_landmark_outside_its_range_is_refused(tmp_path: Path, months: str) -> None:
    message = fault_of(tmp_path, "seed = 3", f"landmark_months = {months}")
    assert "run.landmark_months" in message


def test_four_models_are_released_beside_the_final_one(plan: RunPlan) -> None:
    assert plan.strategy.release_members == 4


def test_a_plan_from_before_landmarks_is_read(plan: RunPlan, tmp_path: Path) -> None:
    write_plan(tmp_path, plan)
    path = tmp_path / "plan.json"
    content = json.loads(path.read_bytes())
    del content["landmark_months"], content["strategy"]["release_members"]
    path.write_text(json.dumps(content))
    assert read_plan(tmp_path) == plan
