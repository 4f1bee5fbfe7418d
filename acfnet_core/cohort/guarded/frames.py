"""What passes between a reader and the process that asked: pickles with a length.

A reader has touched a hostile file. What it sends is unpickled with an allow-list: our
own classes and a few plain ones, no function but the one that restores an error. What
was sent is also kept on the disk in this form, see `spool`.
"""

import importlib
import io
import pickle  # noqa: TID251 - within this machine, with an allow-list of classes
import socket
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("!Q")
_MAX_FRAME_BYTES = 2 * 1024**3
_PLAIN_CLASSES = frozenset(
    {
        ("builtins", "complex"),
        ("builtins", "frozenset"),
        ("builtins", "set"),
        ("collections", "Counter"),
        ("collections", "OrderedDict"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("pathlib", "PosixPath"),
    }
)
_OWN_CLASSES = "acfnet_core.cohort."
_ERRORS = "acfnet_core.errors"


_found: dict[tuple[str, str], Any] = {}
"""Module and name -> the allowed class: looking it up costs more than the rest."""


class ForeignObjectError(Exception):
    """A frame holds what no reader of ours sends."""


def pack(content: object) -> bytes:
    """Return an object as a frame."""
    body = pack_body(content)
    return _LENGTH.pack(len(body)) + body


def pack_body(content: object) -> bytes:
    """Return an object as the body of a frame."""
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


def receive_trusted(channel: socket.socket) -> Any:
    """Read one frame from the process that gives the orders; waits for it.

    Raises:
        EOFError: The other side is gone.
    """
    (length,) = _LENGTH.unpack(_receive(channel, _LENGTH.size))
    return pickle.loads(_receive(channel, length))  # noqa: S301 - from our own parent


class FrameBuffer:
    """Takes bytes as they come from a reader and gives whole objects."""

    def __init__(self) -> None:
        self._content = bytearray()

    def __bool__(self) -> bool:
        """Tell whether there are bytes that complete no object yet."""
        return bool(self._content)

    def feed(self, content: bytes) -> Iterator[Any]:
        """Take some bytes and yield every object that they complete.

        Raises:
            ForeignObjectError: The bytes are not such as a reader of ours sends.
        """
        self._content += content
        while len(self._content) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._content)
            end = _LENGTH.size + length
            if length > _MAX_FRAME_BYTES:
                raise ForeignObjectError
            if len(self._content) < end:
                return
            body = bytes(memoryview(self._content)[_LENGTH.size : end])
            del self._content[:end]
            yield unpack_body(body)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _found.get((module, name))
        if found is None:
            found = _found[module, name] = self._find(module, name)
        return found

    def _find(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN_CLASSES:
            return super().find_class(module, name)
        if module == _ERRORS or module.startswith(_OWN_CLASSES):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
            if (module, name) == (_ERRORS, "_restore"):
                return found
        raise ForeignObjectError


def unpack_body(body: bytes) -> Any:
    """Return the object of a frame's body, if it is of the allowed classes.

    Raises:
        ForeignObjectError: It is not such as a reader of ours sends.
    """
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ):
        raise ForeignObjectError from None


def _receive(channel: socket.socket, num_bytes: int) -> bytes:
    content = bytearray()
    while len(content) < num_bytes:
        part = channel.recv(min(num_bytes - len(content), 1 << 20))
        if not part:
            raise EOFError
        content += part
    return bytes(content)
