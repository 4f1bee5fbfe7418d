from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from references.federated_run import make_run, make_sites

from acf_server.answers import RawAnswer
from acf_server.console import describe_event
from acf_server.readiness import check_readiness
from acf_server.run_events import ReadinessChecked, RunEvent
from acf_server.run_plan import RunPlan
from acfnet_core import __version__
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import SiteFailure
from acfnet_core.federation.readiness import Readiness, parse_readiness_request

READY = Readiness(
    site="hospital-a",
    run="trial",
    version=__version__,
    device="cpu",
    free_disk_gib=12.0,
    free_memory_gib=5.5,
)


@dataclass
class Answers:
    """An exchange whose answers are given."""

    answers: list[RawAnswer]
    asked: str = ""

    def ask(self, document: str) -> Iterator[RawAnswer]:
        self.asked = document
        yield from self.answers


def reply(site: str, **changes: object) -> RawAnswer:
    told = READY.model_copy(update={"site": site, **changes})
    return RawAnswer(site=site, seconds=0.0, reply=told.model_dump_json())


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    folder: Path = tmp_path_factory.mktemp("run")
    return make_run(folder, make_sites(("hospital-a", "hospital-b"))).plan


def check(plan: RunPlan, *answers: RawAnswer) -> ReadinessChecked:
    events: list[RunEvent] = []
    try:
        check_readiness(plan, Answers(list(answers)), events.append, num_values=9)
    finally:
        (event,) = events
        assert isinstance(event, ReadinessChecked)
    return event


def test_sites_that_are_ready_are_told_with_their_machines(plan: RunPlan) -> None:
    event = check(plan, reply("hospital-b"), reply("hospital-a", device="cuda"))
    assert [site.site for site in event.sites] == ["hospital-a", "hospital-b"]
    assert not any(site.codes for site in event.sites)
    assert describe_event(event) == "\n  ".join(
        f"{name}: ready (acfnet {__version__}, {device}, 12 GiB of disk free, "
        "5.5 GiB of memory free)"
        for name, device in (("hospital-a", "cuda"), ("hospital-b", "cpu"))
    )


def test_the_question_names_run_contract_version_and_size(plan: RunPlan) -> None:
    asked = Answers([reply("hospital-a"), reply("hospital-b")])
    check_readiness(plan, asked, lambda event: None, num_values=9)
    request = parse_readiness_request(asked.asked)
    assert request.contract_sha256 == plan.contract_sha256
    assert (request.run, request.num_values) == ("trial", 9)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply("hospital-b", codes=("machine.disk_low",)), "machine.disk_low"),
        (reply("hospital-b", version="0.0.1"), "protocol.version_mismatch"),
        (reply("hospital-b", run="another"), "protocol.malformed"),
        (
            RawAnswer(site="hospital-b", seconds=0.0, reply=READY.model_dump_json()),
            "protocol.malformed",
        ),
        (RawAnswer(site="hospital-b", seconds=0.0, reply="{"), "protocol.malformed"),
        (
            RawAnswer(site="hospital-b", seconds=1.0, code="protocol.site_timeout"),
            "protocol.site_timeout",
        ),
        (
            RawAnswer(
                site="hospital-b",
                seconds=1.0,
                failure=SiteFailure(code="protocol.malformed").model_dump_json(),
            ),
            "protocol.malformed",
        ),
    ],
)
def test_a_run_does_not_begin_with_too_few_ready_sites(
    plan: RunPlan, answer: RawAnswer, code: str
) -> None:
    with pytest.raises(ProtocolError, match="1 of 2 sites are ready") as caught:
        check(plan, reply("hospital-a"), answer)
    assert caught.value.code == "protocol.sites_not_ready"
    assert "hospital-b: " in caught.value.message
    assert code in caught.value.message


def test_a_run_begins_without_a_site_that_it_can_spare(plan: RunPlan) -> None:
    spared = plan.model_copy(update={"minimum_sites": 1})
    event = check(spared, reply("hospital-a"), reply("hospital-b", codes=("x.y",)))
    assert event.sites[1].codes == ("protocol.malformed",)
    assert "hospital-b: NOT READY: protocol.malformed" in (describe_event(event) or "")
