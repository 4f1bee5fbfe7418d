"""Generated replies of a hostile site: the global model does not change by them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from references.hostile_replies import (
    BAD,
    DECLARED,
    KINDS,
    PLAIN,
    SPOILT_ENCODINGS,
    HostileSite,
)

from acf_server.answers import RawAnswer
from acf_server.round_loop import RoundLoop
from acf_server.run_files import read_sites
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters, flatten

NUM_CASES = 25
"""Of each kind; `make soak` takes 1,000."""
ROUNDS = 2
ENCODED = {
    "float16": UpdateSettings(compression="float16"),
    "top_k": UpdateSettings(compression="top_k"),
}
ENCODED_KINDS = [
    (compression, kind)
    for compression, kinds in SPOILT_ENCODINGS.items()
    for kind in [*kinds, DECLARED, "foreign reply", "replayed reply"]
]


def parameters_after(folder: Path, number: int) -> bytes:
    return flatten(load_checkpoint(folder, number)[0]).tobytes()


def play(
    folder: Path, kind: str | None, updates: UpdateSettings = PLAIN
) -> HostileSite:
    """Play a run in whose last round one site sends nothing but one kind of reply."""
    hostile = HostileSite(folder, updates)
    hostile.run.plan = hostile.run.plan.model_copy(update={"rounds": ROUNDS})

    def exchange(request: RoundRequest, base: FlatParameters) -> Iterator[RawAnswer]:
        answers = hostile.honest(request, base)
        if request.round < ROUNDS:
            yield from answers
            return
        yield from (raw for raw in answers if raw.site != BAD)
        if kind is not None and request.round == ROUNDS:
            yield from hostile.cases(kind, NUM_CASES, seed=len(kind))

    RoundLoop(hostile.run.plan, folder, exchange, hostile.run.events.append).run()
    return hostile


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The models of runs in whose last round the site is silent, by compression."""
    models = {}
    for name, updates in {"none": PLAIN, **ENCODED}.items():
        folder = tmp_path_factory.mktemp(name)
        play(folder, None, updates)
        models[name] = parameters_after(folder, ROUNDS)
    return models


def assert_refused(hostile: HostileSite, folder: Path) -> None:
    refused = [
        event
        for event in hostile.run.events
        if event.kind == "site_failed" and event.site == BAD
    ]
    assert len(refused) == NUM_CASES
    record = next(site for site in read_sites(folder) if site.name == BAD)
    assert sum(record.rounds_failed.values()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_hostile_reply_changes_the_model(
    tmp_path: Path, without: dict[str, bytes], kind: str
) -> None:
    hostile = play(tmp_path, kind)
    assert parameters_after(tmp_path, ROUNDS) == without["none"]
    assert_refused(hostile, tmp_path)


@pytest.mark.parametrize(("compression", "kind"), ENCODED_KINDS)
def test_no_hostile_encoding_changes_the_model(
    tmp_path: Path, without: dict[str, bytes], compression: str, kind: str
) -> None:
    hostile = play(tmp_path, kind, ENCODED[compression])
    assert parameters_after(tmp_path, ROUNDS) == without[compression]
    assert_refused(hostile, tmp_path)
