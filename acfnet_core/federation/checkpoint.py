"""The global model after a round, on the disk: safetensors and a manifest, or nothing.

A folder `checkpoints/round-0007/` is complete when it has its manifest, which is
written last and holds the hash of the parameters.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from acfnet_core.config import Section
from acfnet_core.errors import DataError
from acfnet_core.federation.messages import Sha256
from acfnet_core.federation.parameters import NamedArrays, flatten, sha256_of
from acfnet_core.files import make_folder, write_atomically

PARAMETERS_FILE = "parameters.safetensors"
MANIFEST_FILE = "manifest.json"


class CheckpointManifest(Section):
    """What stands beside the parameters and vouches for them."""

    format_version: Literal[1] = 1
    run: str
    round: int
    """0 is the initial model."""
    parameters_sha256: Sha256
    contributors: dict[str, int]
    """Site to num_examples: whose data went into this round."""


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
) -> CheckpointManifest:
    """Write the global model after a round; the manifest comes last.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    folder = make_folder(round_folder(run_folder, round_number))
    manifest = CheckpointManifest(
        run=run,
        round=round_number,
        parameters_sha256=sha256_of(flatten(arrays)),
        contributors=contributors,
    )
    write_atomically(folder / PARAMETERS_FILE, save(dict(arrays)))
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
    folder = round_folder(run_folder, round_number)
    try:
        text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
        manifest = CheckpointManifest.model_validate_json(text)
        arrays = load_file(folder / PARAMETERS_FILE)
        intact = sha256_of(flatten(arrays)) == manifest.parameters_sha256
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        raise _damaged(folder, type(error).__name__) from error
    if not intact:
        raise _damaged(folder, "the hash differs")
    return arrays, manifest


def completed_rounds(run_folder: Path) -> list[int]:
    """Return the rounds with a complete checkpoint, in order."""
    manifests = (run_folder / "checkpoints").glob(f"round-*/{MANIFEST_FILE}")
    numbers = [path.parent.name.removeprefix("round-") for path in manifests]
    # A person may have put a copy such as round-0003-old beside the others.
    return sorted(int(number) for number in numbers if number.isdecimal())


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{folder}: the checkpoint is absent or damaged ({reason}).",
        remedy="Take the checkpoint of an earlier round, or run the training again.",
    )
