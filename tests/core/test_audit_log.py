import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.audit import FIRST_HASH, MAX_RECORD_BYTES, AuditHead, AuditLog, verify
from acfnet_core.errors import MachineError


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(4):
        log.append("site_invited", site=f"hospital-{number}")
    return log


def test_an_untouched_log_verifies_to_its_head(log: AuditLog) -> None:
    head = log.append("site_approved", site="hospital-a")
    assert verify(log.path) == head
    assert head.num_records == 5


def test_the_first_record_names_no_record_before_it(log: AuditLog) -> None:
    first = json.loads(log.path.read_bytes().splitlines()[0])
    assert (first["sequence"], first["previous"]) == (1, FIRST_HASH)


def test_the_log_is_readable_by_its_owner_only(log: AuditLog) -> None:
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_an_empty_log_has_an_empty_head(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch()
    assert verify(path) == AuditHead(num_records=0, hash=FIRST_HASH)


def test_a_changed_record_is_named(log: AuditLog) -> None:
    content = log.path.read_bytes().replace(b"hospital-2", b"hospital-9")
    log.path.write_bytes(content)
    with pytest.raises(MachineError, match="line 3 is not what was written"):
        verify(log.path)


def test_a_removed_record_is_named(log: AuditLog) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(MachineError, match="line 2"):
        verify(log.path)


def test_a_record_written_twice_is_named(log: AuditLog) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join([*lines, lines[-1]]))
    with pytest.raises(MachineError, match="line 5"):
        verify(log.path)


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_changed_byte_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    log = AuditLog(tmp_path_factory.mktemp("audit") / "audit.jsonl")
    log.append("a", site="x")
    log.append("b", num_patients=3)
    content = bytearray(log.path.read_bytes())
    content[position % len(content)] ^= flip
    log.path.write_bytes(content)
    with pytest.raises(MachineError):
        verify(log.path)


def test_a_torn_last_line_is_replaced_by_a_record_of_it(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"event":"site_ap')
    log.append("site_approved", site="hospital-a")
    events = [json.loads(line)["event"] for line in log.path.read_bytes().splitlines()]
    assert events[4:] == ["torn_record_removed", "site_approved"]
    assert verify(log.path).num_records == 6


def test_a_torn_first_line_is_replaced_too(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.path.write_bytes(b"{")
    log.append("site_approved")
    assert verify(log.path).num_records == 2


def test_nothing_is_added_to_a_damaged_end(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(MachineError) as caught:
        log.append("site_approved")
    assert caught.value.code == "machine.audit_damaged"


def test_nothing_is_added_after_what_is_too_long_for_a_torn_record(
    log: AuditLog,
) -> None:
    with log.path.open("ab") as file:
        file.write(b"x" * 3 * MAX_RECORD_BYTES)
    with pytest.raises(MachineError, match="its end"):
        log.append("site_approved")


def test_a_reserved_field_is_refused(log: AuditLog) -> None:
    with pytest.raises(ValueError, match=r"reserved.*hash"):
        log.append("site_approved", hash="x")


def test_a_record_that_is_too_long_is_refused(log: AuditLog) -> None:
    with pytest.raises(ValueError, match="at most"):
        log.append("site_approved", text="x" * MAX_RECORD_BYTES)


def test_writers_take_turns(log: AuditLog) -> None:
    def write() -> None:
        for _ in range(10):
            AuditLog(log.path).append("round_finished")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(log.path).num_records == 44


def test_a_log_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        AuditLog(tmp_path / "none" / "audit.jsonl").append("a")
    assert caught.value.code == "machine.folder_unwritable"


def test_a_missing_log_does_not_verify(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read"):
        verify(tmp_path / "audit.jsonl")
