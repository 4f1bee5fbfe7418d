"""Reading a file of settings into its typed form, with all of its faults at once."""

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from acfnet_core.errors import ConfigError

SettingsModel = TypeVar("SettingsModel", bound=BaseModel)

_SHOWN_CHARACTERS = 60


class Section(BaseModel):
    """Base of what crosses a border: frozen, strict, no unknown keys, no NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


def read_settings(path: Path, model: type[SettingsModel]) -> SettingsModel:
    """Read a TOML file of settings and check it against its model.

    Raises:
        ConfigError: The file is missing, is no TOML, or has faults; every fault is
            listed with its place, the value found and the value expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: there is no such file.",
            remedy="Correct the path, or set the folder up with the init command.",
        ) from error
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Correct the path or the file's permissions.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "config.invalid",
            f"{path}: is not a TOML file: {error}.",
            remedy="Correct the file at the place named and repeat the command.",
        ) from error
    return check_settings(content, model, where=str(path))


def check_settings(
    content: dict[str, Any], model: type[SettingsModel], *, where: str
) -> SettingsModel:
    """Check settings that were read already; `where` names them in a message.

    Raises:
        ConfigError: The settings have faults; all of them are listed.
    """
    try:
        # By way of JSON: strict validation then takes a list where a tuple is meant,
        # and still no string where a number is meant.
        return model.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise ConfigError(
            "config.invalid",
            "\n".join(describe_faults(error, where=where, with_values=True)),
            remedy="Correct the settings named and repeat the command.",
        ) from error


def describe_faults(
    error: ValidationError, *, where: str, with_values: bool
) -> list[str]:
    """Describe each fault in one line: the file, the place, what was expected.

    Args:
        error: What pydantic found.
        where: The file's name or path.
        with_values: Also show what was found; only for files without secrets.
    """
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in fault["loc"])
        line = (
            f"{where}: {place}: {fault['msg']}"
            if place
            else (f"{where}: {fault['msg']}")
        )
        if with_values and fault["type"] != "missing":
            found = repr(fault["input"])
            if len(found) > _SHOWN_CHARACTERS:
                found = f"{found[:_SHOWN_CHARACTERS]}..."
            line = f"{line} (got {found})"
        lines.append(line)
    return lines
