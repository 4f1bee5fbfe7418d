import json
from collections.abc import Callable
from typing import Any

import pytest
from references.round_messages import make_reply, make_request

from acfnet_core.config import Section
from acfnet_core.errors import CATALOGUE, ProtocolError
from acfnet_core.federation.messages import (
    MAX_DOCUMENT_BYTES,
    CohortCounts,
    RoundReply,
    RoundRequest,
    SiteFailure,
    SiteMetrics,
    parse_failure,
    parse_reply,
    parse_request,
)

MARKER = "patient-4711"

Parse = Callable[[str], Section]
KINDS: list[tuple[Parse, Section]] = [
    (parse_request, make_request()),
    (parse_reply, make_reply()),
    (parse_failure, SiteFailure(code="data.no_events")),
]
PARSERS = [parse for parse, _ in KINDS]


def _refusal(parse: Parse, document: str) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse(document)
    assert caught.value.code == "protocol.malformed"
    return caught.value


def _changed(document: Section, **changes: Any) -> str:
    return json.dumps({**document.model_dump(), **changes})


@pytest.mark.parametrize(("parse", "document"), KINDS)
def test_a_message_comes_back_as_it_was_sent(parse: Parse, document: Section) -> None:
    assert parse(document.model_dump_json()) == document


@pytest.mark.parametrize(("parse", "document"), KINDS)
def test_an_unknown_key_is_refused(parse: Parse, document: Section) -> None:
    error = _refusal(parse, _changed(document, patients=3))
    assert "unknown keys" in error.message


@pytest.mark.parametrize("part", ["counts", "metrics"])
def test_an_unknown_key_inside_a_reply_is_refused(part: str) -> None:
    content = make_reply().model_dump()
    content[part]["patients"] = [1, 2]
    _refusal(parse_reply, json.dumps(content))


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("document", ["", "{", "[]", "null", "3", "[" * 10_000])
def test_what_is_no_document_is_refused(parse: Parse, document: str) -> None:
    _refusal(parse, document)


@pytest.mark.parametrize(("parse", "document"), KINDS)
def test_a_later_format_is_refused(parse: Parse, document: Section) -> None:
    assert (
        "format_version"
        in _refusal(parse, _changed(document, format_version=2)).message
    )


@pytest.mark.parametrize("parse", PARSERS)
def test_a_document_that_is_too_long_is_refused(parse: Parse) -> None:
    error = _refusal(parse, " " * (MAX_DOCUMENT_BYTES + 1))
    assert str(MAX_DOCUMENT_BYTES + 1) in error.message


@pytest.mark.parametrize(
    "document",
    [
        MARKER,
        json.dumps(MARKER),
        _changed(make_reply(), site=MARKER.upper()),
        _changed(make_reply(), num_examples=MARKER),
        _changed(make_reply(), metrics={MARKER: 1}),
        _changed(make_reply(), **{MARKER: 1}),
    ],
)
def test_what_was_received_is_never_quoted(document: str) -> None:
    error = _refusal(parse_reply, document)
    told = repr((error.message, error.remedy, str(error), error.__cause__))
    assert MARKER not in told.lower()


def test_a_fault_names_its_place() -> None:
    content = make_reply().model_dump()
    content["metrics"]["loss"] = "low"
    content["round"] = 0
    error = _refusal(parse_reply, json.dumps(content))
    assert "faults at metrics.loss, round" in error.message


@pytest.mark.parametrize(
    "change",
    [
        {"num_examples": 0},
        {"num_examples": -9},
        {"num_examples": 10**9},
        {"num_examples": True},
        {"num_examples": 40.0},
        {"num_steps": -1},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"site": "../hospital-a"},
        {"run": "Run 1"},
        {"base_sha256": "A" * 64},
        {"parameters_sha256": "b" * 63},
        {"signature": "é" * 8},
        {"signature": "A" * 301},
        {"signature": ""},
    ],
)
def test_a_senseless_reply_is_refused(change: dict[str, Any]) -> None:
    _refusal(parse_reply, _changed(make_reply(), **change))


@pytest.mark.parametrize(
    "change",
    [
        {"harrell_c": 1.5},
        {"loss": float("nan")},
        {"num_patients": -1},
        {"num_events": 1.5},
    ],
)
def test_senseless_metrics_are_refused(change: dict[str, Any]) -> None:
    content = make_reply().model_dump()
    content["metrics"] |= change
    _refusal(parse_reply, json.dumps(content))


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_a_failure_keeps_a_code_of_the_catalogue(code: str) -> None:
    assert parse_failure(json.dumps({"code": code})).code == code


@pytest.mark.parametrize("code", ["", "data.other", MARKER, "x" * 5000])
def test_a_failure_with_an_unknown_code_says_only_that_it_is_malformed(
    code: str,
) -> None:
    assert parse_failure(json.dumps({"code": code})).code == "protocol.malformed"


def test_a_failure_carries_a_code_and_nothing_else() -> None:
    assert set(SiteFailure.model_fields) == {"format_version", "code"}


def test_a_reply_carries_the_agreed_fields_and_no_other() -> None:
    assert set(RoundReply.model_fields) == {
        "format_version",
        "site",
        "run",
        "round",
        "base_sha256",
        "parameters_sha256",
        "compression",
        "num_examples",
        "num_steps",
        "reading_sha256",
        "counts",
        "metrics",
        "personal",
        "seconds",
        "signature",
    }
    assert set(CohortCounts.model_fields) == {
        "num_patients",
        "num_events",
        "num_with_scans",
        "num_scans",
        "followed_months",
    }
    assert set(SiteMetrics.model_fields) == {
        "num_patients",
        "num_events",
        "loss",
        "harrell_c",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"round": 0},
        {"trains": "yes"},
        {"landmark_months": 97.0},
        {"landmark_months": -25.0},
    ],
)
def test_a_senseless_request_is_refused(change: dict[str, Any]) -> None:
    _refusal(parse_request, _changed(make_request(), **change))


def test_a_request_cannot_be_changed_after_it_was_read() -> None:
    request = parse_request(make_request().model_dump_json())
    assert isinstance(request, RoundRequest)
    with pytest.raises(ValueError, match="frozen"):
        request.round = 9  # type: ignore[misc]
