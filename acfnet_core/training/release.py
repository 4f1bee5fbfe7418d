"""Loading a trained global model for use: see docs/use-from-python.md."""

from pathlib import Path

from pydantic import ValidationError

from acfnet_core.errors import DataError
from acfnet_core.federation.parameters import NamedArrays, layout_of
from acfnet_core.federation.release import (
    ReleaseDescription,
    load_members,
    load_release,
)
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.training.model_arrays import load_arrays, model_arrays


def load_model(folder: Path) -> AcfNet:
    """Load the trained model of a run, ready to predict.

    Args:
        folder: The `model` folder of a finished run: safetensors and a description.

    Raises:
        DataError: The files are absent or damaged, or describe another network than
            the one of this version.
    """
    arrays, description = load_release(folder)
    return _build(folder, arrays, description)


def load_ensemble(folder: Path) -> tuple[AcfNet, ...]:
    """Load the trained model of a run and those of the rounds before it.

    Args:
        folder: As for `load_model`.

    Returns:
        The final model first, then the members by round; one model where the release
        has no members.

    Raises:
        DataError: As for `load_model`, of any of the files.
    """
    arrays, description = load_release(folder)
    every = (arrays, *load_members(folder))
    return tuple(_build(folder, one, description) for one in every)


def _build(
    folder: Path, arrays: NamedArrays, description: ReleaseDescription
) -> AcfNet:
    try:
        model = AcfNet(AcfNetConfig.model_validate(description.model))
    except ValidationError as error:
        raise _unfit(folder, "its settings are not valid") from error
    if layout_of(arrays) != layout_of(model_arrays(model)):
        raise _unfit(folder, "the parameters fit another network")
    load_arrays(model, arrays)
    return model.eval()


def _unfit(folder: Path, reason: str) -> DataError:
    return DataError(
        "data.store_damaged",
        f"{folder}: the model cannot be built: {reason}.",
        remedy="Copy the folder again, or install the acfnet version that wrote it.",
    )
