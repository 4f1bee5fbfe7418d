from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from references.strategy_updates import EVERY_STRATEGY

from acf_server.run_config import read_run_config, resolve_plan
from acf_server.run_plan import (
    PARAMETERS_OF,
    RunPlan,
    StrategySettings,
    read_plan,
    write_plan,
)
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.errors import ConfigError
from acfnet_core.training.settings import LocalTrainingSettings

CONTRACT = shipped_contract("crlm")
NAMES = sorted(EVERY_STRATEGY)
SGD = LocalTrainingSettings(local_steps=1, optimiser="sgd")


def settings_of(name: str, **given: Any) -> StrategySettings:
    return StrategySettings.model_validate({"name": name, **given})


def faults_of(name: str, **given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings_of(name, **given)
    return str(caught.value)


def own_parameters(settings: StrategySettings) -> dict[str, Any]:
    every = {key for parameters in PARAMETERS_OF.values() for key in parameters}
    content = settings.model_dump()
    return {key: content[key] for key in every if content[key] is not None}


def test_every_strategy_has_its_parameters_listed() -> None:
    assert set(EVERY_STRATEGY) == set(PARAMETERS_OF)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_is_stored_with_all_of_its_parameters(name: str) -> None:
    settings = settings_of(name, **EVERY_STRATEGY[name])
    assert set(own_parameters(settings)) == set(PARAMETERS_OF[name])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_read_again(name: str) -> None:
    settings = settings_of(name, **EVERY_STRATEGY[name])
    stored = settings.model_dump_json()
    assert StrategySettings.model_validate_json(stored) == settings


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_of_another_strategy_is_named_with_its_owner(name: str) -> None:
    foreign = {
        key: owner
        for owner, parameters in PARAMETERS_OF.items()
        for key in parameters
        if key not in PARAMETERS_OF[name]
    }
    for key, owner in foreign.items():
        value = 1 if key.startswith("num_") else 0.25
        words = faults_of(name, **EVERY_STRATEGY[name], **{key: value})
        assert f"{key} belongs to " in words
        assert owner in words
        assert f"not to {name}" in words


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("fedprox", "proximal_mu"),
        ("trimmed_mean", "trimmed_share"),
        ("multi_krum", "num_malicious"),
        ("multi_krum", "num_kept"),
    ],
)
def test_a_parameter_without_a_default_is_asked_for(name: str, parameter: str) -> None:
    assert f"{name} needs {parameter}" in faults_of(name)


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "scaffold", "local_only"])
@pytest.mark.parametrize(
    "change", [{"weighting": "patients"}, {"weighting": "events"}, {"max_share": 0.4}]
)
def test_weights_are_refused_where_every_site_counts_the_same(
    name: str, change: dict[str, Any]
) -> None:
    words = faults_of(name, **EVERY_STRATEGY[name], **change)
    assert f"{name} counts every site the same" in words


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fedavgm", {"server_momentum": 1.0}),
        ("fedavgm", {"server_learning_rate": 0.0}),
        ("fedadam", {"beta_1": 1.0}),
        ("fedadam", {"beta_2": -0.1}),
        ("fedadam", {"tau": 0.0}),
        ("fedadam", {"server_learning_rate": float("nan")}),
        ("fedprox", {"proximal_mu": 0.0}),
        ("trimmed_mean", {"trimmed_share": 0.5}),
        ("trimmed_mean", {"trimmed_share": 0.0}),
        ("multi_krum", {"num_malicious": -1, "num_kept": 1}),
        ("multi_krum", {"num_malicious": 1, "num_kept": 0}),
        ("multi_krum", {"num_malicious": 1.5, "num_kept": 1}),
        ("fedavg", {"weighting": "size"}),
        ("average", {}),
    ],
)
def test_a_senseless_value_is_refused(name: str, change: dict[str, Any]) -> None:
    faults_of(name, **change)


@pytest.mark.parametrize("content", [{"name": ["fedavg"]}, {"name": 3}, [], "fedavg"])
def test_content_of_another_form_is_refused(content: Any) -> None:
    with pytest.raises(ValidationError):
        StrategySettings.model_validate(content)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_on_strategies_states_each_with_its_defaults(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    table, _, _ = page.partition("## What a site weighs")
    (row,) = [
        line
        for line in table.splitlines()
        if line.startswith("| `") and f"`{name}`" in line
    ]
    for key, default in PARAMETERS_OF[name].items():
        stated = {1e-3: "1e-3"}.get(default or 0.0, f"{default or 0:g}")
        assert (f"`{key}` {stated}" if default else f"`{key}`") in row


def misfits(
    name: str,
    minimum_sites: int,
    training: LocalTrainingSettings = SGD,
    **given: Any,
) -> list[str]:
    settings = settings_of(name, **(EVERY_STRATEGY[name] | given))
    return settings.misfits(training, minimum_sites=minimum_sites)


@pytest.mark.parametrize("name", NAMES)
def test_three_sites_of_plain_descent_fit_every_strategy(name: str) -> None:
    assert misfits(name, 3) == []


@pytest.mark.parametrize(
    ("name", "given", "fewest", "words"),
    [
        ("median", {}, 3, "median (of two sites it is the mean) needs 3 sites"),
        ("trimmed_mean", {"trimmed_share": 0.2}, 5, "with trimmed_share 0.2 needs 5"),
        ("trimmed_mean", {"trimmed_share": 0.3}, 4, "with trimmed_share 0.3 needs 4"),
        (
            "multi_krum",
            {"num_malicious": 1, "num_kept": 2},
            5,
            "with num_malicious 1 and num_kept 2 needs 5 sites in a round",
        ),
        (
            "multi_krum",
            {"num_malicious": 1, "num_kept": 6},
            7,
            "with num_malicious 1 and num_kept 6 needs 7 sites in a round",
        ),
    ],
)
def test_too_few_sites_are_told_with_their_number(
    name: str, given: dict[str, Any], fewest: int, words: str
) -> None:
    assert misfits(name, fewest, **given) == []
    (fault,) = misfits(name, fewest - 1, **given)
    assert words in fault
    assert f"minimum_sites is {fewest - 1}" in fault


def test_scaffold_asks_for_plain_descent() -> None:
    adamw = LocalTrainingSettings(local_steps=1)
    (fault,) = misfits("scaffold", 2, adamw)
    assert 'needs training.optimiser = "sgd"' in fault
    assert "(got adamw)" in fault


RUN = """
[run]
name = "first"
study = "Disease-free survival"
sites = ["hospital-a", "hospital-b"]
rounds = 5

[training]
local_epochs = 1
"""


def read(folder: Path, more: str, run: str = RUN) -> RunPlan:
    path = folder / "run.toml"
    path.write_text(run + more)
    config = read_run_config(path)
    keys = dict.fromkeys(config.run.sites, "key")
    return resolve_plan(config, CONTRACT, keys)


def fault_of(folder: Path, more: str, run: str = RUN) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, more, run)
    assert caught.value.code == "config.invalid"
    return caught.value.message


def test_a_run_file_with_too_few_sites_is_refused(tmp_path: Path) -> None:
    message = fault_of(tmp_path, '[strategy]\nname = "median"')
    assert "needs 3 sites in a round; minimum_sites is 2" in message


def test_the_minimum_counts_and_not_the_roster(tmp_path: Path) -> None:
    run = RUN.replace('"hospital-b"', '"hospital-b", "hospital-c"')
    few = run.replace("rounds = 5", "rounds = 5\nminimum_sites = 2")
    strategy = '[strategy]\nname = "median"'
    assert read(tmp_path, strategy, run).strategy.name == "median"
    assert "minimum_sites is 2" in fault_of(tmp_path, strategy, few)


def test_faults_of_strategy_and_personalising_are_told_at_once(tmp_path: Path) -> None:
    more = '[strategy]\nname = "scaffold"\n[personalise]\nlocal_steps = 5'
    message = fault_of(tmp_path, more)
    assert "training.optimiser" in message
    assert "personalise needs training.validation_share above 0" in message


def test_personalising_needs_a_global_model(tmp_path: Path) -> None:
    run = RUN + "validation_share = 0.2\n"
    more = '[strategy]\nname = "local_only"\n[personalise]\nlocal_steps = 5'
    assert "local_only makes none" in fault_of(tmp_path, more, run)


def test_a_plan_holds_what_the_strategy_needs(tmp_path: Path) -> None:
    run = RUN + "validation_share = 0.2\n"
    more = '[strategy]\nname = "fedadam"\nweighting = "events"\n'
    plan = read(tmp_path, more + "[personalise]\nlocal_steps = 5", run)
    assert plan.minimum_cell == CONTRACT.minimum_cell
    assert plan.personalise is not None
    assert own_parameters(plan.strategy) == dict(PARAMETERS_OF["fedadam"])
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
