"""The line between the Flower app of a message and the site's resident trainer.

Flower starts a fresh process for every message. Ours imports neither torch nor the
data: it hands the message over a Unix socket to the one trainer process of the site,
which keeps both in memory. The socket lies in a folder that only this user can enter,
and both ends check that the other runs as the same user.

A frame is a kind and the form of its values (1 byte each), two lengths in bytes (4 and
8 bytes, big-endian), a JSON document and values: float32, or an encoded update.
"""

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.compression import SentValues
from acfnet_core.federation.messages import (
    FAILURE,
    MAX_DOCUMENT_BYTES,
    REPLY,
    REQUEST,
)

SOCKET_VARIABLE = "ACF_TRAINER_SOCKET"
"""Name of the environment variable by which the app finds the trainer."""
TRAINER_RETURN_S = 120.0
"""Starting again takes a pause of up to 30 s and the loading of torch and the data."""
MAX_BREAKS = 3
_RETRY_S = 0.5
_HEADER = struct.Struct(">BBIQ")
_KINDS = (REQUEST, REPLY, FAILURE)
_FORMS = (np.dtype("<f4"), np.dtype("u1"))
_PEER = struct.Struct("3i")
_MAX_PARAMETER_BYTES = 1 << 34


@dataclass(frozen=True)
class Frame:
    """One message on the line."""

    kind: str
    """`REQUEST`, `REPLY` or `FAILURE`."""
    document: str
    parameters: SentValues | None = None


def ask_trainer(request: Frame) -> Frame:
    """Send a request to the site's trainer and wait for the answer.

    A trainer that ended is started again by `acf-client start`; the same request then
    gives the same answer, so it is simply asked again.

    Raises:
        ProtocolError: `protocol.trainer_unreachable`: it did not come back within
            `TRAINER_RETURN_S`, or went away `MAX_BREAKS` times over the same request.
    """
    breaks, given_up = 0, monotonic() + TRAINER_RETURN_S
    while True:
        try:
            return _ask_once(request)
        except (ConnectionRefusedError, FileNotFoundError):
            if monotonic() > given_up:
                raise _unreachable("it is not running") from None
        except ProtocolError:
            breaks += 1
            given_up = monotonic() + TRAINER_RETURN_S
            if breaks >= MAX_BREAKS:
                raise
        sleep(_RETRY_S)


def _ask_once(request: Frame) -> Frame:
    path = os.environ.get(SOCKET_VARIABLE, "")
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(path)
            check_peer(link)
            send_frame(link, request)
            return receive_frame(link)
    except (ConnectionRefusedError, FileNotFoundError):
        raise
    except OSError as error:
        raise _unreachable(type(error).__name__) from error


def send_frame(link: socket.socket, frame: Frame) -> None:
    """Send a frame whole."""
    text = frame.document.encode()
    form, values = 0, b""
    if frame.parameters is not None:
        form = int(frame.kind == REPLY and frame.parameters.dtype == _FORMS[1])
        values = frame.parameters.astype(_FORMS[form]).tobytes()
    kind = _KINDS.index(frame.kind)
    link.sendall(_HEADER.pack(kind, form, len(text), len(values)) + text)
    if values:
        link.sendall(values)


def receive_frame(link: socket.socket) -> Frame:
    """Receive a frame whole.

    Raises:
        ProtocolError: The other end closed early, announced an absurd length or sent
            no text.
    """
    header = _receive(link, _HEADER.size)
    kind, form, text_length, values_length = _HEADER.unpack(header)
    known = kind < len(_KINDS) and form < len(_FORMS)
    absurd = (
        text_length > MAX_DOCUMENT_BYTES
        or values_length > _MAX_PARAMETER_BYTES
        or (known and values_length % _FORMS[form].itemsize)
        or (known and form > 0 and _KINDS[kind] != REPLY)
    )
    if absurd or not known:
        raise _unreachable("a frame of an absurd kind or length")
    try:
        document = _receive(link, text_length).decode()
    except UnicodeDecodeError as error:
        raise _unreachable("a document that is no text") from error
    if not values_length:
        return Frame(_KINDS[kind], document)
    values = np.frombuffer(_receive(link, values_length), dtype=_FORMS[form])
    native = values.dtype.newbyteorder("=")
    return Frame(_KINDS[kind], document, values.astype(native))


def check_peer(link: socket.socket) -> None:
    """Refuse another user of this machine.

    Raises:
        ProtocolError: The other end runs as another user.
    """
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(credentials)
    if user != os.getuid():
        raise _unreachable("the other end runs as another user")


def listen(path: Path) -> socket.socket:
    """Open the trainer's socket; its folder must admit this user alone."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(4)
    return listener


def _receive(link: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    view, received = memoryview(buffer), 0
    while received < length:
        count = link.recv_into(view[received:])
        if count == 0:
            raise _unreachable("the connection was closed early")
        received += count
    return bytes(buffer)


def _unreachable(reason: str) -> ProtocolError:
    return ProtocolError(
        "protocol.trainer_unreachable",
        f"The site's trainer did not answer ({reason}).",
        remedy="Look at logs/trainer.log in the site folder; start the site again.",
    )
