"""When the rounds of a run of ours ended, by the clock of the machine.

The events of a run bear no time, so somebody looks at their file all the time.
"""

import json
from pathlib import Path
from threading import Event, Thread
from time import time

_LOOK_S = 0.005


class RoundClock:
    """Notes when each event of a run was written, for as long as its block lasts.

    Args:
        path: The run's file of events.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size_bytes = 0
        self._times: list[float] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, name="round clock", daemon=True)

    def __enter__(self) -> "RoundClock":
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look for a last time."""
        self._ended.set()
        self._thread.join()
        self._note_lines()

    def round_ends(self, num_rounds: int) -> list[float]:
        """Return when each round ended: when the next began, or the run's end.

        What follows the last round only judges its model.
        """
        events = [json.loads(line) for line in self._path.read_text().splitlines()]
        found: dict[int, float] = {}
        for event, moment in zip(events, self._times, strict=True):
            if event["kind"] == "round_started":
                found.setdefault(event["round"] - 1, moment)
            elif event["kind"] == "run_finished":
                found.setdefault(num_rounds, moment)
        return [found[number] for number in range(1, num_rounds + 1)]

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._note_lines()

    def _note_lines(self) -> None:
        size_bytes = self._path.stat().st_size if self._path.exists() else 0
        if size_bytes != self._size_bytes:
            self._size_bytes = size_bytes
            num_lines = self._path.read_bytes().count(b"\n")
            self._times.extend([time()] * (num_lines - len(self._times)))
