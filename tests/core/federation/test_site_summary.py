import json
from typing import Any

import pytest
from references.summary_cohorts import make_summary

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.site_summary import (
    MAX_SUMMARY_BYTES,
    FeatureSummary,
    Moments,
    SiteSummary,
    parse_summary,
    sign_summary,
    verify_summary,
)
from acfnet_core.identity.keys import generate_key

KEY = generate_key()


def fields_of(content: Any, prefix: str = "") -> set[str]:
    """Return the place of every key, those of features and codes as *."""
    if not isinstance(content, dict):
        return {prefix}
    open_keys = {"features", "codes", "refused", "num_at_risk", "patients_by_scans"}
    is_open = prefix.rpartition(".")[2] in open_keys
    return {
        field
        for key, value in content.items()
        for field in fields_of(value, f"{prefix}.{'*' if is_open else key}".strip("."))
    }


def test_these_fields_leave_a_site_and_no_others() -> None:
    feature = "features.*"
    moments = ("mean", "standard_deviation")
    quartiles = ("lower", "median", "upper")
    assert fields_of(make_summary().model_dump(mode="json")) == {
        *("format_version", "consortium", "site", "release", "acfnet_version"),
        *("contract_name", "contract_sha256", "minimum_cell", "num_patients"),
        "outcome.num_events",
        "outcome.median_follow_up_years",
        "outcome.num_at_risk.*",
        "scans.num_with_scans",
        "scans.num_scans",
        "scans.patients_by_scans.*",
        *(f"scans.slice_spacing_mm.{name}" for name in quartiles),
        *(f"scans.pixel_spacing_mm.{name}" for name in quartiles),
        *(f"scans.liver_hu.{name}" for name in moments),
        f"{feature}.num_known",
        *(f"{feature}.moments.{name}" for name in moments),
        f"{feature}.moments",
        f"{feature}.codes.*",
        f"{feature}.codes",
        "refused.*",
    }


def test_a_signed_summary_survives_its_file() -> None:
    signed = sign_summary(KEY, make_summary())
    read = parse_summary(signed.to_bytes(), where="summary.json")
    verify_summary(KEY.public_key(), read)
    assert read.summary == make_summary()


@pytest.mark.parametrize(
    "change",
    [
        {"site": "hospital-b"},
        {"num_patients": 101},
        {"release": 2},
        {"refused": {}},
        {"outcome": None},
    ],
    ids=str,
)
def test_a_changed_summary_does_not_verify(change: dict[str, Any]) -> None:
    signed = sign_summary(KEY, make_summary())
    changed = signed.model_copy(
        update={"summary": signed.summary.model_copy(update=change)}
    )
    with pytest.raises(ProtocolError) as caught:
        verify_summary(KEY.public_key(), changed)
    assert caught.value.code == "protocol.signature_invalid"


def test_another_key_does_not_verify() -> None:
    with pytest.raises(ProtocolError):
        verify_summary(generate_key().public_key(), sign_summary(KEY, make_summary()))


def test_a_signature_that_is_no_base64_does_not_verify() -> None:
    signed = sign_summary(KEY, make_summary()).model_copy(update={"signature": "A"})
    with pytest.raises(ProtocolError):
        verify_summary(KEY.public_key(), signed)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b" " * (MAX_SUMMARY_BYTES + 1),
        json.dumps({"summary": {}, "signature": "AA==", "note": "CANARY"}).encode(),
    ],
    ids=["empty", "list", "no text", "no keys", "too long", "unknown key"],
)
def test_a_file_that_is_no_summary_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_summary(content, where="summary.json")
    assert caught.value.code == "protocol.malformed"
    assert "summary.json" in caught.value.message
    assert "CANARY" not in caught.value.message


def test_a_key_that_is_not_named_is_refused() -> None:
    content = json.loads(sign_summary(KEY, make_summary()).to_bytes())
    content["summary"]["oldest_patient"] = 91
    with pytest.raises(ProtocolError):
        parse_summary(json.dumps(content).encode(), where="summary.json")


def test_the_hash_is_of_the_whole_content() -> None:
    summary = make_summary()
    other = summary.model_copy(update={"release": 2})
    assert summary.sha256() != other.sha256()


def test_a_withheld_count_with_a_mean_is_of_all_but_a_few() -> None:
    summary = make_summary()
    feature = FeatureSummary(
        num_known=None, moments=Moments(mean=1.0, standard_deviation=1.0)
    )
    changed = summary.model_copy(update={"features": {"age": feature}})
    assert changed.least_known("age") == 91


@pytest.mark.parametrize("name", ["none", "left out", "withheld"])
def test_where_nothing_is_told_nothing_is_known(name: str) -> None:
    features = {"left out": None, "withheld": FeatureSummary(num_known=None)}
    summary = make_summary().model_copy(update={"features": features})
    assert summary.least_known(name) is None


def test_cells_hold_what_counts_imply() -> None:
    feature = FeatureSummary(num_known=80, codes={"a": 50, "b": None, "c": None})
    cells = feature.cells(100)
    assert cells["all but known"] == 20
    assert cells["known but told codes"] == 30


def test_a_summary_survives_json() -> None:
    summary = make_summary()
    assert SiteSummary.model_validate_json(summary.model_dump_json()) == summary


@pytest.mark.parametrize(
    ("known", "codes"),
    [(95, {"a": 95}), (100, {"a": 95, "b": None}), (9, None), (100, {"a": 91, "b": 9})],
)
def test_a_summary_that_tells_of_few_cannot_be_built(
    known: int, codes: dict[str, int | None] | None
) -> None:
    content = make_summary().model_dump()
    content["features"] = {"sex": {"num_known": known, "codes": codes}}
    with pytest.raises(ValueError, match="smaller than the minimum cell"):
        SiteSummary.model_validate(content)


def test_a_part_that_is_larger_than_its_whole_cannot_be_told() -> None:
    content = make_summary().model_dump() | {"num_patients": 60}
    with pytest.raises(ValueError, match="larger than the one"):
        SiteSummary.model_validate(content)
