from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from references.learning_rates import slow_course

from acfnet_core.training.schedule import RoundOfRun, learning_rate_at
from acfnet_core.training.settings import LocalTrainingSettings

SHARES = st.floats(0.0, 1.0)


def ask(**changes: Any) -> LocalTrainingSettings:
    content = {"local_steps": 1, "learning_rate": 0.1, "schedule": "cosine"}
    return LocalTrainingSettings.model_validate({**content, **changes})


def course(settings: LocalTrainingSettings, num_rounds: int, steps: int) -> list[float]:
    """Every rate of a run, as its rounds ask for them one after the other."""
    return [
        learning_rate_at(
            RoundOfRun(number=number, num_rounds=num_rounds).progress(step, steps),
            settings,
        )
        for number in range(1, num_rounds + 1)
        for step in range(1, steps + 1)
    ]


@limits(deadline=None, max_examples=30)
@given(
    num_rounds=st.integers(1, 6),
    steps=st.integers(1, 9),
    warm_up_share=st.floats(0.0, 0.9),
    final_share=SHARES,
)
def test_the_rounds_of_a_run_follow_the_slow_reference(
    num_rounds: int, steps: int, warm_up_share: float, final_share: float
) -> None:
    settings = ask(warm_up_share=warm_up_share, final_share=final_share)
    slow = slow_course(
        num_rounds=num_rounds,
        steps_of_round=steps,
        highest=0.1,
        warm_up_share=warm_up_share,
        final_share=final_share,
    )
    # Where a step's middle is the end of the warm-up, both sides of it are the highest.
    assert course(settings, num_rounds, steps) == pytest.approx(slow, rel=1e-6)


def test_known_rates_of_a_cosine_without_warm_up() -> None:
    # cos of 0, 60, 90, 120 and 180 degrees: 1, 1/2, 0, -1/2 and -1.
    settings = ask(warm_up_share=0.0, final_share=0.2)
    rates = [learning_rate_at(p, settings) for p in (0.0, 1 / 3, 0.5, 2 / 3, 1.0)]
    assert rates == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


def test_a_cosine_agrees_with_torchs_own() -> None:
    # torch.optim.lr_scheduler.CosineAnnealingLR(T_max=4, eta_min=0.01), torch 2.13, at
    # its steps 0 to 4 of lr 0.1.
    golden = [0.1, 0.0868198051533946, 0.055, 0.023180194846605357, 0.01]
    settings = ask(warm_up_share=0.0, final_share=0.1)
    rates = [learning_rate_at(p, settings) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx(golden)


def test_the_warm_up_is_a_straight_line() -> None:
    settings = ask(warm_up_share=0.4)
    rates = [learning_rate_at(p, settings) for p in (0.1, 0.2, 0.3, 0.4)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1])


def test_a_constant_rate_is_constant_after_its_warm_up() -> None:
    settings = ask(schedule="constant", warm_up_share=0.2)
    assert {learning_rate_at(p, settings) for p in (0.2, 0.5, 1.0)} == {0.1}


@limits(deadline=None, max_examples=50)
@given(
    progress=SHARES,
    warm_up_share=st.floats(0.0, 0.99),
    final_share=SHARES,
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_no_rate_is_above_the_highest_or_below_nothing(
    progress: float, warm_up_share: float, final_share: float, schedule: str
) -> None:
    settings = ask(
        warm_up_share=warm_up_share, final_share=final_share, schedule=schedule
    )
    assert 0.0 <= learning_rate_at(progress, settings) <= 0.1 * (1 + 1e-12)


@pytest.mark.parametrize("num_rounds", [1, 3, 7])
def test_a_cosine_never_rises_after_the_warm_up(num_rounds: int) -> None:
    rates = course(ask(warm_up_share=0.0), num_rounds, 5)
    assert all(after < before for before, after in pairwise(rates))


def test_every_step_trains() -> None:
    assert min(course(ask(final_share=0.0), 4, 3)) > 0.0


@limits(deadline=None, max_examples=30)
@given(num_rounds=st.integers(1, 8), steps=st.integers(1, 8))
def test_the_rounds_of_a_run_are_one_course(num_rounds: int, steps: int) -> None:
    whole = course(ask(), 1, num_rounds * steps)
    assert course(ask(), num_rounds, steps) == pytest.approx(whole)


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan")])
def test_a_place_outside_the_run_is_a_mistake(progress: float) -> None:
    with pytest.raises(ValueError, match="progress must be from 0 to 1"):
        learning_rate_at(progress, ask())


@pytest.mark.parametrize(("number", "num_rounds"), [(0, 3), (4, 3)])
def test_a_round_outside_the_run_is_a_mistake(number: int, num_rounds: int) -> None:
    with pytest.raises(ValueError, match=f"round {number} is not one of 1 to 3"):
        RoundOfRun(number=number, num_rounds=num_rounds)
