import numpy as np
import pytest

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.aggregation import Weighing, Weighting, in_order


def _update(site: str, patients: int, events: int | None) -> AdmittedUpdate:
    return AdmittedUpdate(
        site=site,
        num_examples=patients,
        num_events=events,
        parameters=np.zeros(2, np.float32),
        update_norm=0.0,
    )


SITES = [_update("a", 60, 10), _update("b", 30, 15), _update("c", 10, None)]


@pytest.mark.parametrize(
    ("by", "shares"),
    [
        ("patients", [0.6, 0.3, 0.1]),
        ("events", [10 / 33, 15 / 33, 8 / 33]),
        ("equal", [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_sites_weigh_by_what_the_run_says(by: Weighting, shares: list[float]) -> None:
    weighing = Weighing(by=by, cap=1.0, minimum_cell=8)
    assert weighing.shares(SITES) == pytest.approx(shares)


def test_a_site_that_may_not_tell_its_events_weighs_as_the_minimum_cell() -> None:
    weighing = Weighing(by="events", cap=1.0, minimum_cell=10)
    told, withheld = _update("a", 50, 10), _update("b", 50, None)
    assert weighing.shares([told, withheld]) == [0.5, 0.5]


def test_a_site_without_events_weighs_as_the_minimum_cell() -> None:
    weighing = Weighing(by="events", cap=1.0, minimum_cell=10)
    assert weighing.shares([_update("a", 50, 0), _update("b", 50, 30)]) == [0.25, 0.75]


@pytest.mark.parametrize("by", ["patients", "events"])
def test_the_cap_holds_whatever_sites_weigh_by(by: Weighting) -> None:
    sites = [_update("a", 900, 800), _update("b", 50, 40), _update("c", 50, 40)]
    weighing = Weighing(by=by, cap=0.5, minimum_cell=10)
    assert weighing.shares(sites) == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("updates", "words"),
    [
        ([], "0 updates of 0 sites"),
        ([SITES[0], SITES[0]], "2 updates of 1 sites"),
        (
            [
                SITES[0],
                AdmittedUpdate(
                    site="b",
                    num_examples=1,
                    parameters=np.zeros(3, np.float32),
                    update_norm=0.0,
                ),
            ],
            "2 lengths",
        ),
    ],
)
def test_updates_that_cannot_be_summed_are_a_mistake(
    updates: list[AdmittedUpdate], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        in_order(updates)
