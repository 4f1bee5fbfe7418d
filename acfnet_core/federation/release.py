"""The trained global model as files that anyone can load: safetensors and JSON."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from acfnet_core.config import Section
from acfnet_core.errors import DataError
from acfnet_core.federation.messages import RunName, Sha256
from acfnet_core.federation.parameters import NamedArrays, flatten, sha256_of
from acfnet_core.files import make_folder, write_atomically

RELEASE_FOLDER = "model"
PARAMETERS_FILE = "parameters.safetensors"
DESCRIPTION_FILE = "model.json"


class ReleaseDescription(Section):
    """What the parameters are: the model's settings and where it came from."""

    format_version: Literal[1] = 1
    run: RunName
    model: dict[str, Any]
    contract_sha256: Sha256
    parameters_sha256: Sha256


def save_release(
    folder: Path,
    arrays: NamedArrays,
    *,
    run: str,
    model: dict[str, Any],
    contract_sha256: str,
) -> None:
    """Write a trained model; the description comes last.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    make_folder(folder)
    description = ReleaseDescription(
        run=run,
        model=model,
        contract_sha256=contract_sha256,
        parameters_sha256=sha256_of(flatten(arrays)),
    )
    write_atomically(folder / PARAMETERS_FILE, save(dict(arrays)))
    content = description.model_dump_json(indent=2).encode()
    write_atomically(folder / DESCRIPTION_FILE, content)


def load_release(folder: Path) -> tuple[NamedArrays, ReleaseDescription]:
    """Read a trained model's files and check them.

    Raises:
        DataError: They are absent (`data.path_not_found`) or damaged
            (`data.store_damaged`).
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise DataError(
            "data.path_not_found",
            f"{folder}: holds no {DESCRIPTION_FILE}, so no trained model.",
            remedy="Give the `model` folder of a run that has finished.",
        )
    try:
        description = ReleaseDescription.model_validate_json(path.read_bytes())
        arrays = load_file(folder / PARAMETERS_FILE)
        intact = sha256_of(flatten(arrays)) == description.parameters_sha256
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        raise _damaged(folder, type(error).__name__) from error
    if not intact:
        raise _damaged(folder, "the hash differs")
    return arrays, description


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{folder}: the model's files are damaged ({reason}).",
        remedy="Copy the folder again from the coordinator.",
    )
