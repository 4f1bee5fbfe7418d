"""The append-only record of what entered or left this machine.

The file is JSON Lines. Each record holds the SHA-256 of the record before it and its
own, so that a changed, removed or inserted line is found and named. Cutting whole
records off the end is not seen by one machine alone: compare the head (number of
records and last hash) with one that was noted elsewhere.

A record never holds a patient's identifier or value, a secret or a private key.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acfnet_core.canonical import canonical_json
from acfnet_core.errors import MachineError
from acfnet_core.files import PRIVATE_MODE, describe_os_error

AuditValue = str | int | float | bool | None

FIRST_HASH = "0" * 64
"""What the first record names as the hash of the record before it."""

MAX_RECORD_BYTES = 64 * 1024

_RESERVED = frozenset({"sequence", "time", "event", "previous", "hash"})


@dataclass(frozen=True, kw_only=True)
class AuditHead:
    """The end of a log: how many records it has and the hash of the last one."""

    num_records: int
    hash: str


class AuditLog:
    """An audit log in one file, safe to append to from several processes.

    Args:
        path: The log; it is created, readable by its owner only, at the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **fields: AuditValue) -> AuditHead:
        """Add one record and make it durable before returning.

        A half-written last line, which a power cut can leave, is taken out first and
        a record of its size and hash is put in its place.

        Args:
            event: What happened, as a past participle: `site_approved`.
            fields: What it happened to; no patient, no secret.

        Raises:
            ValueError: A field has a reserved name or the record is too long.
            MachineError: The last record is damaged, or the file cannot be written.
        """
        reserved = sorted(_RESERVED & fields.keys())
        if reserved:
            raise ValueError(f"reserved names of an audit record: {reserved}")
        with self._locked() as descriptor:
            head = self._head(descriptor)
            head = self._replace_torn_line(descriptor, head)
            return _write(descriptor, head, event, fields)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file and hold its lock, so that two writers take turns."""
        try:
            descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_MODE
            )
        except OSError as error:
            raise describe_os_error(error, self.path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        except OSError as error:
            raise describe_os_error(error, self.path) from error
        finally:
            os.close(descriptor)

    def _head(self, descriptor: int) -> AuditHead:
        """Read the last whole record."""
        tail = _read_tail(descriptor)
        if b"\n" not in tail:
            if len(tail) > MAX_RECORD_BYTES:
                raise _damaged(self.path, "its end")
            return AuditHead(num_records=0, hash=FIRST_HASH)
        line = tail[: tail.rindex(b"\n")].rpartition(b"\n")[2]
        record = _parse(line)
        if record is None:
            raise _damaged(self.path, "its last record")
        return AuditHead(num_records=record.sequence, hash=record.hash)

    def _replace_torn_line(self, descriptor: int, head: AuditHead) -> AuditHead:
        """Take out a half-written last line and record that it was there."""
        torn = _read_tail(descriptor).rpartition(b"\n")[2]
        if not torn:
            return head
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(torn))
        fields: dict[str, AuditValue] = {
            "num_bytes": len(torn),
            "sha256": hashlib.sha256(torn).hexdigest(),
        }
        return _write(descriptor, head, "torn_record_removed", fields)


def verify(path: Path) -> AuditHead:
    """Check every record of the log and return its head.

    Raises:
        MachineError: `machine.audit_damaged`, naming the first line that is not what
            was written, or the file cannot be read.
    """
    head = AuditHead(num_records=0, hash=FIRST_HASH)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                head = _check_line(path, number, line, head)
    except OSError as error:
        raise MachineError(
            "machine.audit_damaged",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Correct the path or the permissions, or restore the log.",
        ) from error
    return head


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The parts of a line that hold the chain together."""

    sequence: int
    previous: str
    hash: str


def _check_line(path: Path, number: int, line: bytes, head: AuditHead) -> AuditHead:
    """Check one line against the one before it; return the new head."""
    record = _parse(line.removesuffix(b"\n")) if line.endswith(b"\n") else None
    expected = (head.num_records + 1, head.hash)
    if record is None or (record.sequence, record.previous) != expected:
        raise _damaged(path, f"line {number}")
    return AuditHead(num_records=record.sequence, hash=record.hash)


def _parse(line: bytes) -> _Record | None:
    """Read a line; None where it is not, byte for byte, one that was written."""
    try:
        content: dict[str, Any] = json.loads(line)
        is_canonical = canonical_json(content) == line
        claimed = content.pop("hash")
        computed = hashlib.sha256(canonical_json(content)).hexdigest()
        record = _Record(
            sequence=content["sequence"], previous=content["previous"], hash=computed
        )
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    is_whole = is_canonical and computed == claimed and type(record.sequence) is int
    return record if is_whole else None


def _write(
    descriptor: int, head: AuditHead, event: str, fields: Mapping[str, AuditValue]
) -> AuditHead:
    """Write the record that follows `head`."""
    content: dict[str, AuditValue] = {
        **fields,
        "sequence": head.num_records + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "previous": head.hash,
    }
    own_hash = hashlib.sha256(canonical_json(content)).hexdigest()
    line = canonical_json({**content, "hash": own_hash}) + b"\n"
    if len(line) > MAX_RECORD_BYTES:
        raise ValueError(
            f"audit record of {len(line)} bytes; at most {MAX_RECORD_BYTES} are kept"
        )
    remaining = memoryview(line)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    os.fsync(descriptor)
    return AuditHead(num_records=head.num_records + 1, hash=own_hash)


def _read_tail(descriptor: int) -> bytes:
    """Read enough of the end to hold the last record and a torn one after it."""
    size_bytes = os.fstat(descriptor).st_size
    start = max(0, size_bytes - 2 * MAX_RECORD_BYTES)
    return os.pread(descriptor, size_bytes - start, start)


def _damaged(path: Path, place: str) -> MachineError:
    return MachineError(
        "machine.audit_damaged",
        f"{path}: {place} is not what was written, or a line before it is missing.",
        remedy="Keep the file as it is for inquiry, and restore it from a backup.",
    )
