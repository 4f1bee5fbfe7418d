"""What a simulation says to people."""

import pytest
from references.run_folder import make_score

from acf_server.simulation_judgement import alone_name, spaced_rounds
from acf_server.simulation_result import describe, reaches
from acfnet_core.evaluation.verdict import Interval, ModelScore


def score(
    estimate: float | None, low: float | None = None, *, name: str = "pooled"
) -> ModelScore:
    interval = None if estimate is None else Interval(estimate=estimate, low=low)
    made = make_score("model", 0.5, 0.2)
    return made.model_copy(update={"harrell_c": interval, "name": name})


def federated(estimate: float | None) -> ModelScore:
    return score(estimate, name="federated")


@pytest.mark.parametrize(("ours", "is_reached"), [(0.55, True), (0.54, False)])
def test_a_model_reaches_another_at_the_low_end_of_its_interval(
    ours: float, is_reached: bool
) -> None:
    assert reaches([federated(ours), score(0.65, low=0.55)]) is is_reached


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (federated(None), score(0.6, 0.5)),
        (federated(0.6), score(None)),
        (federated(0.6), score(0.6)),
        (federated(0.6), score(0.6, 0.5, name="ridge Cox")),
    ],
)
def test_without_both_figures_and_an_interval_nothing_is_said(
    ours: ModelScore, theirs: ModelScore
) -> None:
    assert reaches([ours, theirs]) is None


def test_a_figure_stands_with_its_interval() -> None:
    told = Interval(estimate=0.6123, low=0.54, high=0.684)
    assert describe(told) == "0.612 (0.540 to 0.684)"


def test_a_figure_that_is_not_determined_is_no_number() -> None:
    assert describe(None) == "not determined"
    assert describe(Interval(estimate=0.5)) == "0.500 (no interval)"


def test_many_rounds_are_judged_evenly_spaced_with_both_ends() -> None:
    chosen = spaced_rounds(list(range(301)))
    assert len(chosen) == 12
    assert (chosen[0], chosen[-1]) == (0, 300)


def test_a_sites_own_model_is_named_like_the_site() -> None:
    assert alone_name("north") == "north alone"
