"""What a site remembers of a run from round to round, on its own disk.

    RUN/state/round-0003.safetensors   what follows from the site's work in round 3

A file is written before the round's answer is sent. Whether the answer was taken is
told by the server in the next request, so the state before it is kept as well, and a
round that is asked for again begins where it began the first time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acfnet_core.errors import DataError
from acfnet_core.federation.parameters import FlatParameters, sha256_of
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically

STATE_FOLDER = "state"
_VALUES = "values"
_SHA256 = "sha256"


@dataclass(frozen=True)
class SiteState:
    """The states of one run at one site.

    Args:
        run_folder: The run's own folder at the site.
    """

    run_folder: Path

    def load(self, round_number: int) -> FlatParameters:
        """Return what was remembered after a round.

        Raises:
            DataError: `data.store_damaged`: it is absent, cut short or changed.
        """
        path = self._path(round_number)
        try:
            with safe_open(path, framework="numpy") as file:
                values: FlatParameters = file.get_tensor(_VALUES)
                expected = (file.metadata() or {}).get(_SHA256)
        except (OSError, SafetensorError) as error:
            raise _damaged(path, type(error).__name__) from error
        if values.dtype != np.float32 or sha256_of(values) != expected:
            raise _damaged(path, "the hash differs")
        return values

    def save(self, round_number: int, values: FlatParameters, *, after: int) -> None:
        """Remember something, and forget what no request can ask for.

        Kept are this round, the one that it goes on from and the one before that.

        Args:
            round_number: The round that it follows from.
            values: What to remember.
            after: The round whose state this one goes on from; 0 is none.

        Raises:
            MachineError: The folder cannot be written or the disk is full.
        """
        make_folder(self.run_folder / STATE_FOLDER, private=True)
        content = save({_VALUES: values}, metadata={_SHA256: sha256_of(values)})
        write_atomically(self._path(round_number), content, mode=PRIVATE_MODE)
        rounds = self.rounds()
        earlier = [number for number in rounds if number < after][-1:]
        for number in set(rounds) - {round_number, after, *earlier}:
            self._path(number).unlink()

    def rounds(self) -> list[int]:
        """Return the rounds of which something is remembered, in order."""
        paths = (self.run_folder / STATE_FOLDER).glob("round-*.safetensors")
        numbers = [path.stem.removeprefix("round-") for path in paths]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _path(self, round_number: int) -> Path:
        return self.run_folder / STATE_FOLDER / f"round-{round_number:04d}.safetensors"


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{path}: what the site remembers of the run is absent or damaged ({reason}).",
        remedy="Restore the file from a backup; without it the site cannot go on in "
        "this run, and the coordinator starts a new one.",
    )
