from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array
from pydantic import ValidationError
from references.federated_run import FederatedRun, InProcessSites, make_run, make_sites
from references.strategy_runs import StrategyRun, as_saved, make_cohorts
from references.strategy_updates import EVERY_STRATEGY

import acf_server.exchange as exchange_module
from acf_server.answers import RawAnswer
from acf_server.round_loop import RoundLoop
from acf_server.run_config import RunConfig, read_run_config, resolve_plan
from acf_server.run_files import read_rounds
from acf_server.run_plan import StrategySettings
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.errors import ConfigError, ProtocolError
from acfnet_core.federation.checkpoint import load_checkpoint, read_checkpoint
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters, flatten

HALVES = UpdateSettings(compression="float16")
LARGEST = UpdateSettings(compression="top_k", top_k_share=0.1)
PLAIN = UpdateSettings()
KINDS = (HALVES, LARGEST)
BOTH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.compression)
ROUNDS = 3


@pytest.fixture(scope="module")
def sites() -> InProcessSites:
    return make_sites()


def run_of(folder: Path, sites: InProcessSites, kind: UpdateSettings) -> FederatedRun:
    run = make_run(folder / "run", sites, rounds=ROUNDS)
    run.plan = run.plan.model_copy(update={"updates": kind})
    run.sites = replace(run.sites, runs_folder=folder / "sites")
    return run


def parameters_after(run: FederatedRun, number: int = ROUNDS) -> FlatParameters:
    return flatten(load_checkpoint(run.folder, number)[0])


def test_a_run_in_float16_ends_near_the_plain_one(
    tmp_path: Path, sites: InProcessSites
) -> None:
    plain = run_of(tmp_path / "plain", sites, PLAIN).play()
    run = run_of(tmp_path / "halves", sites, HALVES).play()
    moved = parameters_after(plain) - parameters_after(plain, 0)
    apart = parameters_after(run) - parameters_after(plain)
    assert 0 < np.linalg.norm(apart) < 0.01 * np.linalg.norm(moved)


@BOTH
def test_what_came_is_counted_as_it_came(
    tmp_path: Path, sites: InProcessSites, kind: UpdateSettings
) -> None:
    run = run_of(tmp_path, sites, kind).play()
    expected = len(run.plan.sites) * kind.num_bytes(parameters_after(run).size)
    records = {record.round: record for record in read_rounds(run.folder)}
    assert [records[n].bytes_received for n in range(1, ROUNDS + 1)] == [expected] * 3


@BOTH
def test_a_run_that_broke_off_ends_with_the_same_bits(
    tmp_path: Path, sites: InProcessSites, kind: UpdateSettings
) -> None:
    whole = run_of(tmp_path / "whole", sites, kind).play()
    broken = run_of(tmp_path / "broken", sites, kind)

    def break_off(request: RoundRequest, base: FlatParameters) -> Iterator[RawAnswer]:
        yield from broken.sites(request, base)
        if request.round == 2:
            raise InterruptedError

    loop = RoundLoop(broken.plan, broken.folder, break_off, broken.events.append)
    with pytest.raises(InterruptedError):
        loop.run()
    broken.play()
    assert parameters_after(broken).tobytes() == parameters_after(whole).tobytes()


@BOTH
def test_the_checkpoint_says_whose_residual_counts(
    tmp_path: Path, sites: InProcessSites, kind: UpdateSettings
) -> None:
    run = run_of(tmp_path, sites, kind).play()
    state = read_checkpoint(run.folder, 2).state
    rounds = {name.removeprefix("last_round/"): int(state[name][0]) for name in state}
    assert rounds == dict.fromkeys(run.sites.order, 2)


def test_a_plain_run_remembers_nothing_more(
    tmp_path: Path, sites: InProcessSites
) -> None:
    run = run_of(tmp_path, sites, PLAIN).play()
    assert read_checkpoint(run.folder, 2).state == {}


def misfits(name: str, kind: UpdateSettings) -> list[str]:
    settings = StrategySettings.model_validate({"name": name, **EVERY_STRATEGY[name]})
    return settings.misfits_of_updates(kind)


FITTING = [
    (name, kind)
    for name in sorted(EVERY_STRATEGY)
    for kind in (LARGEST if not misfits(name, LARGEST) else HALVES,)
    if not misfits(name, kind)
]


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_every_strategy_goes_on_from_what_it_kept(
    tmp_path: Path, name: str, kind: UpdateSettings
) -> None:
    def run(folder: str) -> StrategyRun:
        return StrategyRun(
            name,
            tmp_path / folder,
            make_cohorts(4),
            plan_changes={"updates": kind},
            num_rounds=2,
            lost={1: ["site-1"]},
        )

    whole, taken_up = run("whole").play(), run("taken up").play(last=1)
    taken_up.state = as_saved(taken_up.state)
    taken_up.take_round(2)
    assert taken_up.base.tobytes() == whole.base.tobytes()
    assert np.isfinite(whole.base).all()


@BOTH
def test_a_request_that_only_judges_asks_for_no_encoding(
    tmp_path: Path, kind: UpdateSettings
) -> None:
    run = StrategyRun(
        "fedavg", tmp_path, make_cohorts(), plan_changes={"updates": kind}
    )
    assert run.request(3, run.base).updates == kind
    assert run.request(4, run.base).updates == PLAIN


@BOTH
def test_a_refusal_says_what_was_expected(tmp_path: Path, kind: UpdateSettings) -> None:
    run = StrategyRun(
        "fedavg", tmp_path, make_cohorts(), plan_changes={"updates": kind}
    )
    answer = run.exchange(1, run.base)[0]
    with pytest.raises(ProtocolError, match=f"expected {kind.compression}") as caught:
        run.strategy.admit(answer.reply, run.base, sent=run.base)
    assert caught.value.code == "protocol.update_refused"
    assert caught.value.message.startswith("site-0: ")


@pytest.mark.parametrize("values", [np.arange(5, dtype=np.uint8), np.zeros(0, "u1")])
def test_an_encoded_update_is_read_from_a_message(values: np.ndarray) -> None:
    found = exchange_module._vector(Array(values))
    assert found is not None
    assert found.dtype == np.uint8
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.float16, bool])
def test_vectors_of_other_types_are_not_read(kind: type) -> None:
    assert exchange_module._vector(Array(np.ones(8, kind))) is None


def config_of(**sections: dict[str, object]) -> RunConfig:
    content = {
        "run": {"name": "first", "study": "s", "sites": ("a", "b", "c"), "rounds": 1},
        "training": {"local_epochs": 1, "optimiser": "sgd"},
    }
    return RunConfig.model_validate(content | sections)


@pytest.mark.parametrize(
    ("name", "updates", "reason"),
    [
        ("scaffold", {"compression": "float16"}, "control variates"),
        ("scaffold", {"compression": "top_k"}, "control variates"),
        ("local_only", {"compression": "float16"}, "sends no update"),
        ("median", {"compression": "top_k"}, "most sites would send no change"),
        ("trimmed_mean", {"compression": "top_k"}, "most sites would send no change"),
    ],
)
def test_a_strategy_that_it_does_not_go_with_is_refused(
    name: str, updates: dict[str, object], reason: str
) -> None:
    strategy = {"name": name, **EVERY_STRATEGY[name]}
    with pytest.raises(ValidationError, match=reason):
        config_of(strategy=strategy, updates=updates)


def test_the_plan_has_the_settings_in_full() -> None:
    config = config_of(updates={"compression": "top_k"})
    keys = dict.fromkeys(config.run.sites, "")
    plan = resolve_plan(config, shipped_contract("crlm"), keys)
    assert plan.updates == UpdateSettings(compression="top_k", top_k_share=0.05)


def test_faults_of_the_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[run]\nname = "first"\nstudy = "s"\nsites = ["a"]\nrounds = 1\n'
        "[training]\nlocal_epochs = 1\n"
        '[updates]\ncompression = "zip"\ntop_k_share = 2.0\n'
    )
    with pytest.raises(ConfigError) as caught:
        read_run_config(path)
    assert "updates.compression" in caught.value.message
    assert "updates.top_k_share" in caught.value.message
