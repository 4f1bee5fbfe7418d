import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acf_client import trainer_link
from acf_client.trainer_link import (
    MAX_BREAKS,
    SOCKET_VARIABLE,
    Frame,
    ask_trainer,
    check_peer,
    listen,
    receive_frame,
    send_frame,
)
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import (
    FAILURE,
    MAX_DOCUMENT_BYTES,
    REPLY,
    REQUEST,
)

Pair = tuple[socket.socket, socket.socket]
HEADER = struct.Struct(">BBIQ")


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def refusal_of(far: socket.socket) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        receive_frame(far)
    return caught.value


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from([REQUEST, REPLY, FAILURE]),
    document=st.text(max_size=200),
    num_values=st.integers(1, 5000),
    seed=st.integers(0, 9),
)
def test_a_frame_arrives_as_it_was_sent(
    kind: str, document: str, num_values: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=num_values).astype(np.float32)
    near, far = socket.socketpair()
    with near, far:
        send_frame(near, Frame(kind, document, values))
        received = receive_frame(far)
    assert (received.kind, received.document) == (kind, document)
    assert received.parameters is not None
    assert received.parameters.dtype == np.float32
    assert received.parameters.tobytes() == values.tobytes()


@pytest.mark.parametrize("nothing", [None, np.zeros(0, np.float32)])
def test_a_frame_without_values_arrives_without_parameters(
    pair: Pair, nothing: np.ndarray | None
) -> None:
    send_frame(pair[0], Frame(FAILURE, "{}", nothing))
    assert receive_frame(pair[1]) == Frame(FAILURE, "{}", None)


def test_values_that_are_not_finite_arrive_bit_for_bit(pair: Pair) -> None:
    values = np.array([np.nan, np.inf, -0.0], np.float32)
    send_frame(pair[0], Frame(REPLY, "{}", values))
    received = receive_frame(pair[1]).parameters
    assert received is not None
    assert received.tobytes() == values.tobytes()


def test_an_encoded_update_arrives_byte_for_byte_in_a_reply(pair: Pair) -> None:
    encoded = np.arange(7, dtype=np.uint8)
    send_frame(pair[0], Frame(REPLY, "{}", encoded))
    received = receive_frame(pair[1]).parameters
    assert received is not None
    assert received.dtype == np.uint8
    assert received.tolist() == encoded.tolist()


def test_a_request_carries_float32_whatever_it_was_given(pair: Pair) -> None:
    send_frame(pair[0], Frame(REQUEST, "{}", np.arange(3, dtype=np.uint8)))
    received = receive_frame(pair[1]).parameters
    assert received is not None
    assert received.dtype == np.float32
    assert received.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("num_bytes", [0, 1, HEADER.size, HEADER.size + 3])
def test_an_early_end_is_an_unreachable_trainer(pair: Pair, num_bytes: int) -> None:
    near, far = pair
    whole = HEADER.pack(0, 0, 2, 8) + b"{}" + bytes(8)
    near.sendall(whole[:num_bytes])
    near.close()
    error = refusal_of(far)
    assert error.code == "protocol.trainer_unreachable"
    assert "closed early" in error.message


@pytest.mark.parametrize(
    ("kind", "form", "text_length", "values_length"),
    [
        (3, 0, 2, 0),
        (255, 0, 0, 0),
        (1, 2, 2, 8),
        (0, 1, 2, 8),
        (2, 1, 2, 8),
        (0, 0, MAX_DOCUMENT_BYTES + 1, 0),
        (0, 0, 2, (1 << 34) + 4),
        (0, 0, 2, (1 << 64) - 1),
        (0, 0, 2, 7),
    ],
)
def test_an_absurd_header_is_refused_before_anything_is_read(
    pair: Pair, kind: int, form: int, text_length: int, values_length: int
) -> None:
    near, far = pair
    near.sendall(HEADER.pack(kind, form, text_length, values_length))
    assert "absurd" in refusal_of(far).message


def test_a_document_that_is_no_text_is_refused(pair: Pair) -> None:
    pair[0].sendall(HEADER.pack(0, 0, 2, 0) + b"\xff\xfe")
    assert "no text" in refusal_of(pair[1]).message


def test_the_socket_is_for_its_owner_only(socket_path: Path) -> None:
    with listen(socket_path):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600


def test_a_peer_of_the_same_user_is_accepted(pair: Pair) -> None:
    check_peer(pair[0])


def test_a_peer_of_another_user_is_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(ProtocolError, match="another user") as caught:
        check_peer(pair[0])
    assert caught.value.code == "protocol.trainer_unreachable"


@pytest.mark.parametrize("path", ["", "none.sock"])
def test_asking_where_nobody_listens_is_an_unreachable_trainer(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SOCKET_VARIABLE, path)
    monkeypatch.setattr(trainer_link, "TRAINER_RETURN_S", 0.0)
    monkeypatch.setattr(trainer_link, "_RETRY_S", 0.01)
    with pytest.raises(ProtocolError) as caught:
        ask_trainer(Frame(REQUEST, "{}"))
    assert caught.value.code == "protocol.trainer_unreachable"
    assert "trainer.log" in caught.value.remedy


def serve(socket_path: Path, breaks: int, answer: Frame) -> threading.Thread:
    """Break off some requests, as a killed trainer does, then answer one."""

    def work() -> None:
        with listen(socket_path) as listener:
            for number in range(breaks + 1):
                link, _ = listener.accept()
                with link:
                    receive_frame(link)
                    if number == breaks:
                        send_frame(link, answer)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def quick(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SOCKET_VARIABLE, str(socket_path))
    monkeypatch.setattr(trainer_link, "_RETRY_S", 0.01)
    return socket_path


def test_a_trainer_that_is_killed_over_a_request_is_asked_again(quick: Path) -> None:
    thread = serve(quick, MAX_BREAKS - 1, Frame(REPLY, "at last"))
    assert ask_trainer(Frame(REQUEST, "{}")).document == "at last"
    thread.join()


def test_a_trainer_that_always_breaks_off_is_given_up(quick: Path) -> None:
    serve(quick, MAX_BREAKS, Frame(REPLY, "too late"))
    with pytest.raises(ProtocolError, match="closed early"):
        ask_trainer(Frame(REQUEST, "{}"))


def test_a_trainer_that_comes_up_late_is_waited_for(quick: Path) -> None:
    timer = threading.Timer(0.2, serve, (quick, 0, Frame(REPLY, "at last")))
    timer.start()
    assert ask_trainer(Frame(REQUEST, "{}")).document == "at last"
