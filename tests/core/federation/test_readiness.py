from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.errors import MachineError, ProtocolError
from acfnet_core.federation import readiness
from acfnet_core.federation.readiness import (
    DISK_COPIES,
    GIB,
    LEAST_DISK_BYTES,
    MEMORY_COPIES,
    SPARE_BYTES,
    VALUE_BYTES,
    Readiness,
    ReadinessRequest,
    free_disk_bytes,
    free_memory_bytes,
    machine_codes,
    parse_readiness,
    parse_readiness_request,
    require_space,
    rounded_gib,
)

REQUEST = ReadinessRequest(
    run="trial", contract_sha256="0" * 64, version="1.0", num_values=1 << 20
)


def make_answer(**changes: object) -> Readiness:
    told = {
        "site": "hospital-a",
        "run": "trial",
        "version": "1.0",
        "device": "cpu",
        "free_disk_gib": 10.0,
        "free_memory_gib": 4.0,
    }
    return Readiness.model_validate({**told, **changes})


def test_question_and_answer_come_back_as_they_were_sent() -> None:
    assert parse_readiness_request(REQUEST.model_dump_json()) == REQUEST
    told = make_answer(codes=("machine.disk_low",))
    assert parse_readiness(told.model_dump_json()) == told


def test_a_code_that_is_not_known_here_is_told_as_one_that_is() -> None:
    told = make_answer(codes=("machine.disk_low", "patient 4711"))
    assert told.known_codes == ("machine.disk_low", "protocol.malformed")


@pytest.mark.parametrize(
    "document", ["", "{}", '{"site": "a"}', make_answer().model_dump_json()[:-1]]
)
def test_what_is_no_answer_is_malformed(document: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_readiness(document)
    assert caught.value.code == "protocol.malformed"


@given(num_values=st.integers(1, 1 << 34), spare=st.integers(-1, 0))
@settings(deadline=None)
def test_a_machine_is_enough_from_its_bounds_on(num_values: int, spare: int) -> None:
    request = REQUEST.model_copy(update={"num_values": num_values})
    size = num_values * VALUE_BYTES
    codes = machine_codes(
        request,
        free_disk_bytes=DISK_COPIES * size + SPARE_BYTES + spare,
        free_memory_bytes=MEMORY_COPIES * size + SPARE_BYTES + spare,
    )
    assert codes == (("machine.disk_low", "machine.memory_low") if spare else ())


def test_this_machine_has_disk_and_memory(tmp_path: Path) -> None:
    assert free_disk_bytes(tmp_path) > 0
    assert 0 < free_memory_bytes() < 1 << 50


@pytest.mark.parametrize(
    ("gib", "told"), [(0.0, 0.0), (0.1234, 0.12), (7.77, 7.8), (1234.0, 1200.0)]
)
def test_sizes_are_told_to_two_digits(gib: float, told: float) -> None:
    assert rounded_gib(int(gib * GIB)) == pytest.approx(told, rel=1e-6)


def test_a_full_disk_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "free_disk_bytes", lambda _: LEAST_DISK_BYTES)
    require_space(tmp_path)
    monkeypatch.setattr(readiness, "free_disk_bytes", lambda _: LEAST_DISK_BYTES - 1)
    with pytest.raises(MachineError, match="the disk is full") as caught:
        require_space(tmp_path)
    assert caught.value.code == "machine.disk_full"
    assert caught.value.remedy == "Free space on this disk."


def test_a_folder_that_is_gone_has_no_space(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="gone"):
        require_space(tmp_path / "gone")
