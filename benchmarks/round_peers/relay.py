"""A relay in front of a server that counts the bytes between it and its sites.

Every site of every peer connects to the relay in place of its server, so that what is
counted is what would cross the network: the TLS stream of each connection, both ways
(no TCP or IP headers). The kernel moves the bytes (splice); Python only counts them.
"""

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOPBACK = "127.0.0.1"
_PIPE_BYTES = 1 << 20


class Relay:
    """Counts what passes between the sites and a server.

    Args:
        server_port: Where the server listens, on loopback.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((LOOPBACK, 0))
        self._counts: list[list[int]] = []
        self.port = int(self._listener.getsockname()[1])
        """Where the sites connect to."""

    @property
    def num_bytes(self) -> int:
        """What has passed so far, both ways."""
        return sum(count[0] for count in self._counts)

    def serve(self) -> None:
        """Take connections until the relay is closed."""
        while True:
            try:
                site, _ = self._listener.accept()
            except OSError:
                return
            self._start("connection", self._connect, site)

    def close(self) -> None:
        """Take no further connection; those that are open end with their ends."""
        with contextlib.suppress(OSError):
            # Closing alone would leave the thread in accept().
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connect(self, site: socket.socket) -> None:
        try:
            server = socket.create_connection((LOOPBACK, self._server_port))
        except OSError:
            site.close()
            return
        for end in (site, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = self._start("to the server", self._move, site, server)
        self._move(server, site)
        there.join()
        site.close()
        server.close()

    def _move(self, source: socket.socket, target: socket.socket) -> None:
        """Move bytes one way until the source ends."""
        count = [0]
        self._counts.append(count)
        out, into = os.pipe()
        try:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            while taken := os.splice(source.fileno(), into, _PIPE_BYTES):
                count[0] += taken
                while taken:
                    taken -= os.splice(out, target.fileno(), taken)
        except OSError:
            # One end was cut off: so is the other.
            with contextlib.suppress(OSError):
                source.shutdown(socket.SHUT_RDWR)
        finally:
            os.close(out)
            os.close(into)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    @staticmethod
    def _start(
        name: str, work: Callable[..., None], *args: socket.socket
    ) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, name=name, daemon=True)
        thread.start()
        return thread


@contextmanager
def counting_relay(server_port: int) -> Iterator[Relay]:
    """Run a relay in front of a server that may start later."""
    relay = Relay(server_port)
    thread = threading.Thread(target=relay.serve, name="relay", daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()


def free_loopback_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
