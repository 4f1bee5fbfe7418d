import os
import struct
import subprocess
from pathlib import Path

import pytest

from acfnet_core.cohort.guarded.frames import ForeignObjectError, FrameBuffer, pack
from acfnet_core.cohort.guarded.limits import HEADER_LIMITS
from acfnet_core.errors import DataError


class _Runs:
    """Pickles as a call, as malware does."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def test_frames_may_come_byte_by_byte() -> None:
    content = pack([1, "two"]) + pack(Path("a\nb"))
    buffer = FrameBuffer()
    found = [one for byte in content for one in buffer.feed(bytes([byte]))]
    assert found == [[1, "two"], Path("a\nb")]
    assert not buffer


@pytest.mark.parametrize(
    "content",
    [HEADER_LIMITS, (1.5, None, b"x"), {"a": {1, 2}}, Path("/a/\udcff")],
)
def test_plain_things_and_our_own_cross(content: object) -> None:
    assert list(FrameBuffer().feed(pack(content))) == [content]


def test_an_error_of_ours_crosses() -> None:
    error = DataError("data.table_empty", "a.csv: empty.", remedy="Export it.")
    (found,) = FrameBuffer().feed(pack(error))
    assert isinstance(found, DataError)
    assert found.as_json() == error.as_json()


@pytest.mark.parametrize(
    "content",
    [
        _Runs(os.system, "true"),
        _Runs(eval, "1"),
        _Runs(getattr, "a", "upper"),
        _Runs(subprocess.Popen, "true"),
        pack,
    ],
)
def test_no_call_is_made_for_a_reader(content: object) -> None:
    with pytest.raises(ForeignObjectError):
        list(FrameBuffer().feed(pack(content)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x05",
        b"nonsense",
        pack([1])[8:-3],
        b"cacfnet_core.cohort.absent\nX\n.",
        b"cacfnet_core.errors\nCATALOGUE\n.",
    ],
)
def test_bytes_that_are_no_frame_are_found(body: bytes) -> None:
    with pytest.raises(ForeignObjectError):
        list(FrameBuffer().feed(struct.pack("!Q", len(body)) + body))


def test_a_frame_beyond_all_measure_is_not_waited_for() -> None:
    with pytest.raises(ForeignObjectError):
        list(FrameBuffer().feed(struct.pack("!Q", 2**40)))
