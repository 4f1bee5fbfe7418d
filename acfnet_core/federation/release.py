"""The trained global model as files that anyone can load: safetensors and JSON.

    model.json                       what the parameters are; written last
    parameters.safetensors           the final model
    members/round-0007.safetensors   the model after an earlier round

The final model and the members, the models of the last rounds before it, make an
ensemble: how far they differ tells how far training had settled.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from acfnet_core.config import Section
from acfnet_core.errors import DataError
from acfnet_core.federation.messages import LandmarkMonths, RunName, Sha256
from acfnet_core.federation.parameters import NamedArrays, sha256_of_arrays
from acfnet_core.files import make_folder, write_atomically
from acfnet_core.tensor_files import write_tensors

RELEASE_FOLDER = "model"
PARAMETERS_FILE = "parameters.safetensors"
DESCRIPTION_FILE = "model.json"
MEMBERS_FOLDER = "members"

NO_MEMBERS: Mapping[int, NamedArrays] = MappingProxyType({})


class ReleaseMember(Section):
    """The global model after an earlier round, which came with the final one."""

    round: Annotated[int, Field(ge=1)]
    file: Annotated[str, Field(pattern=r"^members/round-[0-9]{4,}\.safetensors$")]
    sha256: Sha256
    """Hash of the parameters, as `parameters_sha256`."""


class ReleaseDescription(Section):
    """What the parameters are: the model's settings and where it came from."""

    format_version: Literal[1] = 1
    run: RunName
    model: dict[str, Any]
    contract_sha256: Sha256
    parameters_sha256: Sha256
    supported_months: Annotated[float, Field(gt=0)] | None = None
    """Right edge of the last bin in which enough patients of a site were at risk; the
    hazards after it rest on no patient. None where no site could say."""
    landmark_months: LandmarkMonths | None = None
    """Months after the resection from which times count, for patients who were still
    free of the event then; None is from the resection."""
    round: Annotated[int, Field(ge=0)] | None = None
    """After which this is the model; null in releases from before it was told."""
    members: tuple[ReleaseMember, ...] = ()
    """By round; the final model is not among them."""


def save_release(
    folder: Path,
    arrays: NamedArrays,
    *,
    run: str,
    model: dict[str, Any],
    contract_sha256: str,
    supported_months: float | None = None,
    landmark_months: float | None = None,
    members: Mapping[int, NamedArrays] = NO_MEMBERS,
    round_number: int | None = None,
) -> None:
    """Write a trained model; the description comes last.

    Args:
        folder: Where to write; made if it is not there.
        arrays: The final model.
        run: Name of the run.
        model: The network's settings in full.
        contract_sha256: Hash of the data contract that it was trained under.
        supported_months: How far the hazards rest on patients at risk.
        landmark_months: Months after the resection from which times count.
        members: Round to model, of earlier rounds.
        round_number: Of the final model.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    make_folder(folder)
    write_tensors(folder / PARAMETERS_FILE, arrays)
    description = ReleaseDescription(
        run=run,
        model=model,
        contract_sha256=contract_sha256,
        parameters_sha256=sha256_of_arrays(arrays),
        supported_months=supported_months,
        landmark_months=landmark_months,
        round=round_number,
        members=tuple(
            _save_member(folder, number, members[number]) for number in sorted(members)
        ),
    )
    content = description.model_dump_json(indent=2).encode()
    write_atomically(folder / DESCRIPTION_FILE, content)


def load_release(folder: Path) -> tuple[NamedArrays, ReleaseDescription]:
    """Read a trained model's files and check them; the members are not read.

    Raises:
        DataError: They are absent (`data.path_not_found`) or damaged
            (`data.store_damaged`).
    """
    description = _load_description(folder)
    sha256 = description.parameters_sha256
    return _load_arrays(folder, PARAMETERS_FILE, sha256), description


def load_members(folder: Path) -> tuple[NamedArrays, ...]:
    """Read the models of earlier rounds that came with a trained model, by round.

    Returns:
        One for each of the description's `members`, in that order; none where the
        release has none.

    Raises:
        DataError: They are absent (`data.path_not_found`) or damaged
            (`data.store_damaged`).
    """
    members = _load_description(folder).members
    return tuple(_load_arrays(folder, m.file, m.sha256) for m in members)


def _save_member(folder: Path, round_number: int, arrays: NamedArrays) -> ReleaseMember:
    make_folder(folder / MEMBERS_FOLDER)
    member = ReleaseMember(
        round=round_number,
        file=f"{MEMBERS_FOLDER}/round-{round_number:04d}.safetensors",
        sha256=sha256_of_arrays(arrays),
    )
    write_tensors(folder / member.file, arrays)
    return member


def _load_description(folder: Path) -> ReleaseDescription:
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise DataError(
            "data.path_not_found",
            f"{folder}: holds no {DESCRIPTION_FILE}, so no trained model.",
            remedy="Give the `model` folder of a run that has finished.",
        )
    try:
        return ReleaseDescription.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(folder, DESCRIPTION_FILE, type(error).__name__) from error


def _load_arrays(folder: Path, file: str, sha256: str) -> NamedArrays:
    try:
        arrays = load_file(folder / file)
        is_intact = sha256_of_arrays(arrays) == sha256
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(folder, file, type(error).__name__) from error
    if not is_intact:
        raise _damaged(folder, file, "the hash differs")
    return arrays


def _damaged(folder: Path, file: str, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{folder}: the model's files are damaged ({file}: {reason}).",
        remedy="Copy the folder again from the coordinator.",
    )
