from pathlib import Path
from typing import Any

import numpy as np
import pytest
from references.round_messages import make_reply
from references.strategy_runs import StrategyRun, as_saved, make_cohorts
from references.strategy_updates import EVERY_STRATEGY, make_plan

from acf_server.strategies import RunStrategy
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import LocalStrategy
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.federation.strategies.scaffold import CONTROL
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.site_state import SiteState

NAMES = sorted(EVERY_STRATEGY)
WITH_SITE_STATE = ["local_only", "scaffold"]


@pytest.fixture(scope="module")
def cohorts() -> list[PreparedCohort]:
    return make_cohorts()


@pytest.fixture(scope="module", params=NAMES)
def finished(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cohorts: list[PreparedCohort],
) -> StrategyRun:
    """Two rounds of each strategy."""
    folder = tmp_path_factory.mktemp(request.param)
    return StrategyRun(request.param, folder, cohorts, num_rounds=2).play()


def test_a_run_ends_with_a_finite_model_of_another_place(finished: StrategyRun) -> None:
    initial = flatten(model_arrays(finished.model))
    assert np.isfinite(finished.base).all()
    stays = finished.name == "local_only"
    assert (finished.base.tobytes() == initial.tobytes()) == stays


def test_a_run_taken_up_again_ends_with_the_same_bits(
    finished: StrategyRun, tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    broken = StrategyRun(finished.name, tmp_path, cohorts, num_rounds=2).play(last=1)
    # Round 2 is worked on by the sites, and the server dies before it is complete.
    broken.exchange(2, broken.strategy.vector_to_send(broken.base, broken.state))
    resumed = StrategyRun(finished.name, tmp_path, cohorts, num_rounds=2)
    resumed.base, resumed.state = broken.base.copy(), as_saved(broken.state)
    resumed.play(first=2)
    assert resumed.base.tobytes() == finished.base.tobytes()
    assert {k: resumed.state[k].tobytes() for k in resumed.state} == {
        k: finished.state[k].tobytes() for k in finished.state
    }


@pytest.mark.parametrize("name", WITH_SITE_STATE)
def test_what_the_sites_remember_is_the_same_after_a_repeated_round(
    name: str, tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    def remembered(run: StrategyRun, number: int) -> list[bytes]:
        folders = [run.folder / f"site-{i}" / "trial" for i in range(3)]
        return [SiteState(folder).load(number).tobytes() for folder in folders]

    run = StrategyRun(name, tmp_path, cohorts).play(last=1)
    sent = run.strategy.vector_to_send(run.base, run.state)
    run.exchange(2, sent)
    first = remembered(run, 2)
    run.exchange(2, sent)
    assert remembered(run, 2) == first


def test_the_servers_control_is_the_mean_of_the_sites(
    tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    run = StrategyRun("scaffold", tmp_path, cohorts).play()
    own = [SiteState(tmp_path / f"site-{i}" / "trial").load(3) for i in range(3)]
    np.testing.assert_allclose(
        run.state[CONTROL], np.mean(own, axis=0, dtype=np.float64), atol=1e-6
    )


def test_it_stays_the_mean_when_answers_are_lost(
    tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    lost = {2: ["site-1"], 3: ["site-0", "site-1"]}
    run = StrategyRun("scaffold", tmp_path, cohorts, num_rounds=4, lost=lost).play()
    own = [SiteState(tmp_path / f"site-{i}" / "trial").load(4) for i in range(3)]
    np.testing.assert_allclose(
        run.state[CONTROL], np.mean(own, axis=0, dtype=np.float64), atol=1e-6
    )


def test_scaffold_with_one_step_is_averaging_in_its_first_round(
    tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    training = {"local_steps": 1, "optimiser": "sgd", "weight_decay": 0.0}
    models = [
        StrategyRun(
            name,
            tmp_path / name,
            cohorts,
            strategy_settings=settings,
            training=training,
        ).play(last=1)
        for name, settings in (("scaffold", {}), ("fedavg", {"weighting": "equal"}))
    ]
    # The one divides by three sites at the end, the other multiplies by a third.
    np.testing.assert_array_max_ulp(models[0].base, models[1].base, maxulp=1)


def test_the_proximal_run_stays_nearer_than_the_plain(
    tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    def moved(name: str, settings: dict[str, Any]) -> float:
        run = StrategyRun(name, tmp_path / name, cohorts, strategy_settings=settings)
        before = run.base
        return float(np.linalg.norm(run.play(last=1).base - before))

    assert moved("fedprox", {"proximal_mu": 10.0}) < moved("fedavg", {})


def test_sites_alone_go_their_own_ways(
    tmp_path: Path, cohorts: list[PreparedCohort]
) -> None:
    run = StrategyRun("local_only", tmp_path, cohorts).play()
    assert not run.strategy.makes_a_model
    own = {
        SiteState(tmp_path / f"site-{i}" / "trial").load(3).tobytes() for i in range(3)
    }
    assert len(own) == 3
    assert all(reply.parameters_sha256 is None for reply in run.replies)


def test_the_last_message_brings_the_sites_own_models(tmp_path: Path) -> None:
    run = StrategyRun(
        "fedavg",
        tmp_path,
        make_cohorts(num_patients=40),
        plan_changes={"personalise": {"local_steps": 2, "learning_rate": 0.05}},
        training={"local_steps": 1, "optimiser": "sgd", "validation_share": 0.3},
        num_rounds=1,
    )
    run.play()
    assert [reply.personal for reply in run.replies] == [None] * 3
    run.take_round(2)
    compared = [reply.personal for reply in run.replies]
    assert all(one is not None and one.own_model.loss is not None for one in compared)


def test_a_request_tells_the_sites_nothing_of_weights() -> None:
    fields = RunStrategy(make_plan("fedadam")).request_fields({}, trains=True)
    assert fields == {
        "local_strategy": LocalStrategy(),
        "updates": UpdateSettings(),
        "personalise": None,
    }


def test_scaffold_sends_two_vectors_and_expects_two() -> None:
    strategy = RunStrategy(make_plan("scaffold"))
    base = np.ones(5, np.float32)
    sent = strategy.vector_to_send(base, {})
    rules = strategy.admission_rules(sent)
    assert (sent.size, rules.num_values) == (10, 10)
    # 2 (max_grad_norm 5 + weight_decay 0.01 (|x| + max_update_norm 1000)).
    assert rules.max_control_norm == pytest.approx(2 * (5 + 0.01 * (5**0.5 + 1000)))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "scaffold"])
def test_other_strategies_send_the_model_alone(name: str) -> None:
    strategy = RunStrategy(make_plan(name))
    base = np.ones(5, np.float32)
    assert strategy.vector_to_send(base, {}) is base
    assert strategy.admission_rules(base).max_control_norm is None


@pytest.mark.parametrize("name", [n for n in NAMES if n != "local_only"])
def test_a_reply_without_parameters_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="came without parameters"):
        RunStrategy(make_plan(name)).admit(
            make_reply(), None, sent=np.ones(4, np.float32)
        )


def test_parameters_of_a_site_alone_are_refused() -> None:
    values = np.ones(4, np.float32)
    with pytest.raises(ProtocolError, match="parameters that were not asked for"):
        RunStrategy(make_plan("local_only")).admit(
            make_reply(parameters_sha256=sha256_of(values)), values, sent=values
        )


def test_settings_without_a_parameter_of_theirs_are_a_mistake() -> None:
    plan = make_plan("fedprox")
    broken = plan.strategy.model_copy(update={"name": "trimmed_mean"})
    with pytest.raises(ValueError, match="lack a parameter of their strategy"):
        RunStrategy(plan.model_copy(update={"strategy": broken}))
