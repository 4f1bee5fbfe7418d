"""A bad line between the sites and the server: slow, cut, and dark for ten minutes.

    OMP_NUM_THREADS=1 python soak/line.py --write FILE.md

The sites reach the server through a relay that delays every piece by 80 ms, lets
10 Mbit/s through in each direction and cuts every connection after 3 MB. In the middle
of the run it is closed for ten minutes: no byte goes through, in either direction. The
run must end by itself, with the parameters of one over an undisturbed line.
"""

import argparse
import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from consortium import Consortium, consortium, describe_machine, parameters_after

from acf_server.run_files import read_run
from acf_server.superlink import free_loopback_port
from acfnet_core.federation.checkpoint import PARAMETERS_FILE, round_folder

CUT_BYTES = 3_000_000
DELAY_S = 0.08
BYTES_PER_S = 10e6 / 8
PIECE_BYTES = 1 << 14
TIMEOUT_S = 7200.0


class BadLine:
    """A relay on loopback whose line can be made bad, and dark."""

    def __init__(self, target_port: int) -> None:
        self.port = free_loopback_port()
        self.is_bad = self.is_dark = False
        self.num_cuts = self.num_bytes = 0
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._busy_until = {"up": 0.0, "down": 0.0}

    def start(self) -> None:
        """Relay in a thread of its own until the program ends."""
        self._loop.run_until_complete(
            asyncio.start_server(self._relay, "127.0.0.1", self.port)
        )
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def darken(self) -> None:
        """Cut every connection, and take no new one."""
        self.is_dark = True
        self._loop.call_soon_threadsafe(self._cut_all)

    def lighten(self) -> None:
        """Take connections again."""
        self.is_dark = False

    def _cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.is_dark:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, back}
        carried = [0]
        await asyncio.gather(
            self._carry(reader, back, carried, "up"),
            self._carry(there, writer, carried, "down"),
            return_exceptions=True,
        )
        for end in (writer, back):
            self._writers.discard(end)
            end.transport.abort()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        carried: list[int],
        way: str,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(PIECE_BYTES):
                carried[0] += len(piece)
                self.num_bytes += len(piece)
                if self.is_bad:
                    if carried[0] > CUT_BYTES:
                        self.num_cuts += 1
                        break
                    await self._wait_for_line(len(piece), way)
                target.write(piece)
                await target.drain()
        target.transport.abort() if self.is_bad else target.close()

    async def _wait_for_line(self, num_bytes: int, way: str) -> None:
        """Wait as long as the line is busy with earlier pieces, and this one."""
        now = monotonic()
        begin = max(now, self._busy_until[way])
        self._busy_until[way] = begin + num_bytes / BYTES_PER_S
        await asyncio.sleep(self._busy_until[way] - now + DELAY_S)


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    port = free_loopback_port()
    line = BadLine(port)
    line.start()
    with consortium(folder, num_sites=2, port=port, seen_port=line.port) as made:
        good, good_s = play_run(made, "good", options)
        line.is_bad = True
        bad_before = line.num_bytes
        bad, bad_s = play_run(made, "bad", options, dark_s=options.dark, line=line)
        is_equal = all(
            parameters_after(good, number) == parameters_after(bad, number)
            for number in range(options.rounds + 1)
        )
    size = (round_folder(good, 0) / PARAMETERS_FILE).stat().st_size / 1e6
    yield (
        f"{options.rounds} rounds over 2 sites with a model of {size:.1f} MB "
        f"({describe_machine()}): {good_s:.0f} s over a good line; over a bad one "
        f"{bad_s:.0f} s, {options.dark:.0f} s of them dark, with {line.num_cuts} "
        f"connections cut after 3 MB and {(line.num_bytes - bad_before) / 1e6:.0f} MB "
        f"carried. Status {read_run(bad).status}; parameters after every round "
        f"{'bit-equal' if is_equal else 'DIFFERENT'}."
    )


def play_run(
    made: Consortium,
    name: str,
    options: argparse.Namespace,
    *,
    dark_s: float = 0.0,
    line: BadLine | None = None,
) -> tuple[Path, float]:
    """Play a run, dark in its middle; return its folder and how long it took."""
    folder = made.begin_run(name, rounds=options.rounds, size=options.size)
    started = monotonic()
    if line is not None and dark_s:
        made.wait_for_round(folder, options.rounds // 2, timeout_s=TIMEOUT_S)
        line.darken()
        made.keep(dark_s)
        line.lighten()
    made.wait_for_run(folder, timeout_s=TIMEOUT_S)
    return folder, monotonic() - started


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size", default="base", help="of the model")
    parser.add_argument("--dark", type=float, default=600.0, help="seconds of it")
    parser.add_argument("--write", type=Path, help="markdown file to write")
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n".join(play(options, options.folder or Path(temporary))) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
