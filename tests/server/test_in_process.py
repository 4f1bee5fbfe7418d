"""Sites in this process: asked, answering and failing as over the network."""

from dataclasses import replace
from pathlib import Path

import pytest
from references.federated_run import (
    CPU,
    FederatedRun,
    InProcessSites,
    make_run,
    make_sites,
)
from references.run_folder import make_run as make_record

from acf_server.in_process import InProcessExchange, LocalSite, play_run
from acf_server.run_events import RunEvent, RunFailed, RunFinished, SiteFailed
from acf_server.run_files import RUN_FILE, RUN_LOCK, read_run, write_record
from acfnet_core.errors import MachineError, ProtocolError
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.files import held_lock


def local_sites(sites: InProcessSites) -> tuple[LocalSite, ...]:
    return tuple(
        LocalSite(name=name, cohort=sites.cohorts[name], key=key, device=CPU)
        for name, key in sites.keys.items()
    )


@pytest.fixture
def sites() -> InProcessSites:
    return make_sites()


def prepare(folder: Path, sites: InProcessSites) -> FederatedRun:
    folder.mkdir()
    run = make_run(folder, sites)
    write_record(folder / RUN_FILE, make_record(name="trial", status="running"))
    return run


def play(run: FederatedRun, sites: tuple[LocalSite, ...]) -> list[RunEvent]:
    events: list[RunEvent] = []
    play_run(run.plan, run.folder, InProcessExchange(sites), events.append)
    return events


def final(run: FederatedRun) -> str:
    arrays, _ = load_checkpoint(run.folder, run.plan.rounds)
    return sha256_of(flatten(arrays))


def test_a_run_ends_as_finished(tmp_path: Path, sites: InProcessSites) -> None:
    run = prepare(tmp_path / "run", sites)
    events = play(run, local_sites(sites))
    assert isinstance(events[-1], RunFinished)
    assert read_run(run.folder).status == "finished"


def test_the_order_of_the_sites_decides_nothing(
    tmp_path: Path, sites: InProcessSites
) -> None:
    one, other = (prepare(tmp_path / name, sites) for name in ("one", "other"))
    play(one, local_sites(sites))
    play(other, tuple(reversed(local_sites(sites))))
    assert final(one) == final(other)


def with_few_patients(site: LocalSite) -> LocalSite:
    cohort = replace(site.cohort, patients=site.cohort.patients[:3])
    return replace(site, cohort=cohort)


def test_a_site_that_fails_is_told_by_its_code(
    tmp_path: Path, sites: InProcessSites
) -> None:
    run = prepare(tmp_path / "run", sites)
    first, *others = local_sites(sites)
    events = play(run, (with_few_patients(first), *others))
    failed = [event for event in events if isinstance(event, SiteFailed)]
    assert {(e.site, e.code) for e in failed} == {(first.name, "data.too_few_patients")}
    assert read_run(run.folder).status == "finished"


def test_too_few_sites_end_the_run_as_failed(
    tmp_path: Path, sites: InProcessSites
) -> None:
    run = prepare(tmp_path / "run", sites)
    events: list[RunEvent] = []
    few = tuple(map(with_few_patients, local_sites(sites)))
    with pytest.raises(ProtocolError):
        play_run(run.plan, run.folder, InProcessExchange(few), events.append)
    assert isinstance(events[-1], RunFailed)
    assert events[-1].code == "protocol.too_few_sites"
    assert read_run(run.folder).status == "failed"


def test_a_run_that_another_process_plays_is_left_alone(
    tmp_path: Path, sites: InProcessSites
) -> None:
    run = prepare(tmp_path / "run", sites)
    with (
        held_lock(run.folder / RUN_LOCK, what="this run"),
        pytest.raises(MachineError) as refused,
    ):
        play(run, local_sites(sites))
    assert refused.value.code == "machine.already_running"
    assert read_run(run.folder).status == "running"
