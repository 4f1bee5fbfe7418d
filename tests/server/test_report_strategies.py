import pytest
from references.run_folder import make_run, make_sites
from references.strategy_updates import EVERY_STRATEGY

from acf_server.report_sections import describe_aggregation


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ({"name": "fedavg", "weighting": "events"}, "parameters by events, no site"),
        ({"name": "fedavg", "weighting": "equal"}, "sites' parameters all alike"),
        ({"name": "fedadam"}, "FedAdam, adaptive steps along the mean of the sites'"),
        ({"name": "median"}, "median of the sites' parameters"),
        ({"name": "scaffold"}, "corrections of where each of them drifts"),
        ({"name": "local_only"}, "each site trained a model of its own"),
    ],
)
def test_a_strategy_is_told_in_words(strategy: dict[str, str], words: str) -> None:
    assert words in describe_aggregation(make_run(strategy=strategy), make_sites())


@pytest.mark.parametrize("name", ["fedavg", "median"])
@pytest.mark.parametrize(
    ("updates", "words"),
    [
        ({"compression": "float16"}, "; updates were sent in 16 bits a value"),
        (
            {"compression": "top_k", "top_k_share": 0.01},
            "; of each update the largest values were sent, a share of 0.01",
        ),
    ],
)
def test_encoded_updates_are_told(
    name: str, updates: dict[str, object], words: str
) -> None:
    plain = make_run(strategy={"name": name})
    run = make_run(strategy={"name": name}, updates=updates)
    told = describe_aggregation(plain, make_sites())
    assert describe_aggregation(run, make_sites()) == told + words


def test_no_two_strategies_are_told_alike() -> None:
    told = {
        describe_aggregation(
            make_run(strategy={"name": name, **EVERY_STRATEGY[name]}), make_sites()
        )
        for name in EVERY_STRATEGY
    }
    assert len(told) == len(EVERY_STRATEGY)
