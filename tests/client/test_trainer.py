import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from references.cohorts import make_cohort
from references.federated_run import CPU
from references.site_rounds import ask_to_train, small_model

import acf_client.trainer as trainer_module
from acf_client.site import initialise
from acf_client.trainer import Trainer, serve
from acf_client.trainer_link import SOCKET_VARIABLE, Frame, ask_trainer, listen
from acfnet_core import __version__
from acfnet_core.audit import verify
from acfnet_core.errors import DataError
from acfnet_core.federation.messages import (
    FAILURE,
    REPLY,
    REQUEST,
    SiteFailure,
    parse_failure,
    parse_reply,
)
from acfnet_core.federation.parameters import sha256_of
from acfnet_core.federation.readiness import ReadinessRequest, parse_readiness
from acfnet_core.identity.keys import generate_key

CANARY = "PATIENT-4711"


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    table = tmp_path / "clinical.csv"
    table.touch()
    site = initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    return Trainer(
        site=site,
        name="hospital-a",
        cohort=make_cohort(12, seed=1),
        device=CPU,
        key=generate_key(),
    )


@pytest.fixture
def listening(
    trainer: Trainer, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The trainer at work in a thread, as the app of a message finds it."""
    monkeypatch.setattr(trainer_module, "_PARENT_CHECK_S", 0.02)
    monkeypatch.setenv(SOCKET_VARIABLE, str(socket_path))
    stopped = threading.Event()
    with listen(socket_path) as listener:
        thread = threading.Thread(
            target=serve,
            args=(trainer, listener),
            kwargs={"go_on": lambda: not stopped.is_set()},
        )
        thread.start()
        yield
        stopped.set()
        thread.join()


def make_request(trainer: Trainer, *, trains: bool = True) -> Frame:
    request, base = ask_to_train(small_model(), trainer.cohort, trains=trains)
    return Frame(REQUEST, request.model_dump_json(), base)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Let the round's work raise an exception that quotes a patient."""
    caplog.set_level(logging.DEBUG)

    def fail(*_: object, **__: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr(trainer_module, "answer_round", fail)


@pytest.mark.usefixtures("listening")
def test_a_request_over_the_socket_is_answered(trainer: Trainer) -> None:
    request = make_request(trainer)
    answer = ask_trainer(request)
    assert answer.kind == REPLY
    reply = parse_reply(answer.document)
    assert (reply.site, reply.num_examples, reply.num_steps) == ("hospital-a", 12, 1)
    assert answer.parameters is not None
    assert sha256_of(answer.parameters) == reply.parameters_sha256


@pytest.mark.usefixtures("listening")
def test_the_same_request_is_answered_with_the_same_bits(trainer: Trainer) -> None:
    first = ask_trainer(make_request(trainer)).parameters
    trainer.last.frame = None
    second = ask_trainer(make_request(trainer)).parameters
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


@pytest.mark.usefixtures("listening")
def test_a_request_to_judge_alone_is_answered_without_parameters(
    trainer: Trainer,
) -> None:
    answer = ask_trainer(make_request(trainer, trains=False))
    assert (answer.kind, answer.parameters) == (REPLY, None)


@pytest.mark.usefixtures("listening")
def test_a_request_that_breaks_off_does_not_end_the_trainer(
    trainer: Trainer, socket_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(socket_path))
        link.sendall(b"\0")
    assert ask_trainer(make_request(trainer)).kind == REPLY


def test_what_leaves_is_in_the_audit_log(trainer: Trainer) -> None:
    trainer.answer(make_request(trainer))
    path = trainer.site.folder / "audit.jsonl"
    assert "update_sent" in path.read_text().splitlines()[-1]
    assert verify(path).num_records == 2


def test_a_request_that_comes_again_gets_the_same_signed_answer(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer.answer(make_request(trainer))
    monkeypatch.setattr(trainer_module, "answer_round", None)
    assert trainer.answer(make_request(trainer)) is first
    last = (trainer.site.folder / "audit.jsonl").read_text().splitlines()[-1]
    assert "answer_sent_again" in last


def test_another_request_is_worked_out_anew(trainer: Trainer) -> None:
    first = trainer.answer(make_request(trainer))
    second = trainer.answer(make_request(trainer, trains=False))
    assert second.document != first.document


@pytest.mark.usefixtures("failing")
def test_a_failure_is_not_kept(trainer: Trainer) -> None:
    request = make_request(trainer)
    assert trainer.answer(request).kind == FAILURE
    assert trainer.last.frame is None


@pytest.mark.usefixtures("failing")
def test_an_unexpected_error_leaves_as_a_code_alone(trainer: Trainer) -> None:
    answer = trainer.answer(make_request(trainer))
    expected = SiteFailure(code="protocol.site_failed").model_dump_json()
    assert answer == Frame(FAILURE, expected, None)


@pytest.mark.usefixtures("failing")
def test_the_text_of_an_unexpected_error_is_not_logged(
    trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    trainer.answer(make_request(trainer))
    assert "ValueError at" in caplog.text
    assert CANARY not in caplog.text


def test_a_refusal_leaves_as_its_code_alone(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("data.too_few_patients", CANARY, remedy=CANARY)

    monkeypatch.setattr(trainer_module, "answer_round", refuse)
    answer = trainer.answer(make_request(trainer))
    expected = SiteFailure(code="data.too_few_patients").model_dump_json()
    assert answer == Frame(FAILURE, expected, None)


@pytest.mark.parametrize("document", ["", "{}", "[1]", "\0"])
def test_a_request_that_cannot_be_read_is_refused(
    trainer: Trainer, document: str
) -> None:
    values = make_request(trainer).parameters
    answer = trainer.answer(Frame(REQUEST, document, values))
    assert parse_failure(answer.document).code == "protocol.malformed"


def test_a_request_without_parameters_is_refused(trainer: Trainer) -> None:
    answer = trainer.answer(Frame(REQUEST, make_request(trainer).document))
    assert parse_failure(answer.document).code == "protocol.malformed"


def test_parameters_other_than_announced_are_refused(trainer: Trainer) -> None:
    request = make_request(trainer)
    assert request.parameters is not None
    answer = trainer.answer(Frame(REQUEST, request.document, request.parameters + 1))
    assert parse_failure(answer.document).code == "protocol.malformed"


def ask_readiness(trainer: Trainer, **changes: object) -> Frame:
    request = ReadinessRequest(
        run="trial",
        contract_sha256=trainer.cohort.contract.sha256(),
        version=__version__,
        num_values=1000,
    )
    document = request.model_copy(update=changes).model_dump_json()
    return trainer.answer(Frame(REQUEST, document))


def test_a_site_that_is_ready_says_so_and_what_its_machine_has(
    trainer: Trainer,
) -> None:
    told = parse_readiness(ask_readiness(trainer).document)
    assert (told.site, told.run, told.codes) == ("hospital-a", "trial", ())
    assert (told.version, told.device) == (__version__, "cpu")
    assert told.free_disk_gib > 0
    assert told.free_memory_gib > 0


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"contract_sha256": "0" * 64}, ("data.contract_mismatch",)),
        ({"num_values": 1 << 50}, ("machine.disk_low", "machine.memory_low")),
    ],
)
def test_a_site_says_what_stands_against_a_run(
    trainer: Trainer, changes: dict[str, object], codes: tuple[str, ...]
) -> None:
    assert parse_readiness(ask_readiness(trainer, **changes).document).codes == codes


def test_what_a_site_says_of_being_ready_is_in_the_audit_log(trainer: Trainer) -> None:
    ask_readiness(trainer)
    last = (trainer.site.folder / "audit.jsonl").read_text().splitlines()[-1]
    assert "readiness_sent" in last
