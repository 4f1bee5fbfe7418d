"""Generated replies of a hostile site: the global model does not change by them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from references.hostile_replies import BAD, KINDS, HostileSite

from acf_server.answers import RawAnswer
from acf_server.round_loop import RoundLoop
from acf_server.run_files import read_sites
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters, flatten

NUM_CASES = 25
"""Of each kind; `make soak` takes 1,000."""
ROUNDS = 2


def parameters_after(folder: Path, number: int) -> bytes:
    return flatten(load_checkpoint(folder, number)[0]).tobytes()


def play(folder: Path, kind: str | None, num_cases: int = NUM_CASES) -> HostileSite:
    """Play a run in whose last round one site sends nothing but one kind of reply."""
    hostile = HostileSite(folder)
    hostile.run.plan = hostile.run.plan.model_copy(update={"rounds": ROUNDS})

    def exchange(request: RoundRequest, base: FlatParameters) -> Iterator[RawAnswer]:
        answers = hostile.honest(request, base)
        if request.round < ROUNDS:
            yield from answers
            return
        yield from (raw for raw in answers if raw.site != BAD)
        if kind is not None and request.round == ROUNDS:
            yield from hostile.cases(kind, num_cases, seed=KINDS.index(kind))

    RoundLoop(hostile.run.plan, folder, exchange, hostile.run.events.append).run()
    return hostile


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a run in whose last round the site is silent."""
    folder = tmp_path_factory.mktemp("without")
    play(folder, None)
    return parameters_after(folder, ROUNDS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_hostile_reply_changes_the_model(
    tmp_path: Path, without: bytes, kind: str
) -> None:
    hostile = play(tmp_path, kind)
    assert parameters_after(tmp_path, ROUNDS) == without
    refused = [
        event
        for event in hostile.run.events
        if event.kind == "site_failed" and event.site == BAD
    ]
    assert len(refused) == NUM_CASES
    record = next(site for site in read_sites(tmp_path) if site.name == BAD)
    assert sum(record.rounds_failed.values()) == 1
