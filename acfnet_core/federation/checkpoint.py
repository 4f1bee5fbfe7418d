"""The global model after a round, on the disk: safetensors and a manifest, or nothing.

A folder `checkpoints/round-0007/` is complete when it has its manifest, which is
written last and holds the hashes of the parameters and of what the strategy remembers.
A run that is taken up again needs nothing else of its past.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from acfnet_core.config import Section
from acfnet_core.errors import DataError
from acfnet_core.federation.messages import Sha256
from acfnet_core.federation.parameters import NamedArrays, sha256_of_arrays
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.tensor_files import write_tensors

logger = logging.getLogger(__name__)

PARAMETERS_FILE = "parameters.safetensors"
STATE_FILE = "strategy.safetensors"
"""What the strategy remembers between rounds, such as momentum; some remember nothing.
"""
MANIFEST_FILE = "manifest.json"
_NOTHING: NamedArrays = {}


class CheckpointManifest(Section):
    """What stands beside the parameters and vouches for them."""

    format_version: Literal[1] = 1
    run: str
    round: int
    """0 is the initial model."""
    parameters_sha256: Sha256
    contributors: dict[str, int]
    """Site to num_examples: whose data went into this round."""
    state_sha256: Sha256 | None = None
    """Of the strategy's state, the file's bytes; null where it remembers nothing."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete round, as it was read back."""

    arrays: NamedArrays
    state: NamedArrays
    manifest: CheckpointManifest


def round_folder(run_folder: Path, round_number: int) -> Path:
    """Return where the model after a round lies."""
    return run_folder / "checkpoints" / f"round-{round_number:04d}"


def save_checkpoint(
    run_folder: Path,
    arrays: NamedArrays,
    *,
    run: str,
    round_number: int,
    contributors: dict[str, int],
    state: NamedArrays = _NOTHING,
) -> CheckpointManifest:
    """Write the global model after a round; the manifest comes last.

    Args:
        run_folder: The run's folder.
        arrays: The model.
        run: The run's name.
        round_number: 0 is the initial model.
        contributors: Site to num_examples.
        state: What the strategy remembers after this round.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    folder = make_folder(round_folder(run_folder, round_number))
    # What a round that broke off has left is no part of this one.
    for left in (
        folder / MANIFEST_FILE,
        *folder.glob(".*.tmp*"),
        *folder.glob(".tmp*"),
    ):
        left.unlink(missing_ok=True)
    write_tensors(folder / PARAMETERS_FILE, arrays)
    if state:
        write_tensors(folder / STATE_FILE, state)
    manifest = CheckpointManifest(
        run=run,
        round=round_number,
        parameters_sha256=sha256_of_arrays(arrays),
        contributors=contributors,
        state_sha256=_sha256_of_file(folder / STATE_FILE) if state else None,
    )
    write_atomically(
        folder / MANIFEST_FILE, manifest.model_dump_json(indent=2).encode()
    )
    return manifest


def load_checkpoint(
    run_folder: Path, round_number: int
) -> tuple[NamedArrays, CheckpointManifest]:
    """Read the global model after a round and check its hash.

    Raises:
        DataError: `data.store_damaged`: it is absent, cut short or changed.
    """
    checkpoint = read_checkpoint(run_folder, round_number)
    return checkpoint.arrays, checkpoint.manifest


def read_checkpoint(run_folder: Path, round_number: int) -> Checkpoint:
    """Read a complete round, the strategy's state included, and check its hashes.

    Raises:
        DataError: `data.store_damaged`: it is absent, cut short or changed.
    """
    folder = round_folder(run_folder, round_number)
    try:
        text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
        manifest = CheckpointManifest.model_validate_json(text)
        arrays = load_file(folder / PARAMETERS_FILE)
        intact = sha256_of_arrays(arrays) == manifest.parameters_sha256
        state: NamedArrays = {}
        if manifest.state_sha256 is not None:
            intact &= _sha256_of_file(folder / STATE_FILE) == manifest.state_sha256
            state = load_file(folder / STATE_FILE)
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        raise _damaged(folder, type(error).__name__) from error
    if not intact:
        raise _damaged(folder, "the hash differs")
    return Checkpoint(arrays=arrays, state=state, manifest=manifest)


def latest_checkpoint(run_folder: Path) -> Checkpoint:
    """Read the last round that is complete and intact.

    Raises:
        DataError: `data.store_damaged`: not even the initial model is.
    """
    for number in reversed(completed_rounds(run_folder)):
        try:
            return read_checkpoint(run_folder, number)
        except DataError as error:
            logger.warning("%s Going back to the round before.", error.message)
    return read_checkpoint(run_folder, 0)


@dataclass(frozen=True)
class ModelsOfRounds(Mapping[int, NamedArrays]):
    """The models after some rounds of a run, each read when it is asked for.

    Asking raises what `load_checkpoint` does.
    """

    run_folder: Path
    rounds: range

    def __getitem__(self, number: int) -> NamedArrays:
        """Read the model after a round."""
        if number not in self.rounds:
            raise KeyError(number)
        return load_checkpoint(self.run_folder, number)[0]

    def __iter__(self) -> Iterator[int]:
        """Return the rounds in order."""
        return iter(self.rounds)

    def __len__(self) -> int:
        """Return the number of rounds."""
        return len(self.rounds)


def completed_rounds(run_folder: Path) -> list[int]:
    """Return the rounds with a complete checkpoint, in order."""
    manifests = (run_folder / "checkpoints").glob(f"round-*/{MANIFEST_FILE}")
    numbers = [path.parent.name.removeprefix("round-") for path in manifests]
    # A person may have put a copy such as round-0003-old beside the others.
    return sorted(int(number) for number in numbers if number.isdecimal())


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{folder}: the checkpoint is absent or damaged ({reason}).",
        remedy="Take the checkpoint of an earlier round, or run the training again.",
    )
