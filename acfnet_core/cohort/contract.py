"""The data contract: which columns and images a study asks of every site.

One TOML file, written by the coordinator, read by everybody, identified by its hash.
It says what each column means and when it is known, so that a value that only the
specimen or the follow-up can tell is never offered to a model that speaks before
surgery.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from acfnet_core.canonical import canonical_json
from acfnet_core.cohort.contract_checks import Check, faults_of_checks
from acfnet_core.cohort.contract_columns import (
    ClinicalColumn,
    ContractSection,
    Role,
    Standardisation,
)
from acfnet_core.cohort.contract_imaging import (
    CHANNELS,
    Channel,
    ImagingExpectations,
)
from acfnet_core.errors import ConfigError

__all__ = [
    "CHANNELS",
    "Channel",
    "ClinicalColumn",
    "DataContract",
    "Endpoint",
    "ImagingExpectations",
    "Standardisation",
    "find_contract",
    "load_contract",
    "shipped_contract",
]

_NUMERIC_TYPES = ("number", "binary", "category")
_REASONS = {
    "specimen": "known only from the resected specimen, after surgery",
    "outcome": "part of the outcome that is to be predicted",
    "identifier": "may identify the patient",
}


class Endpoint(ContractSection):
    """What is predicted: the time to an event, and whether it was seen."""

    name: str
    meaning: str
    time_column: str
    event_column: str


class DataContract(ContractSection):
    """The study's data dictionary, its endpoint and its expectations of images.

    Raises:
        ConfigError: `config.forbidden_feature`, as soon as one is built whose features
            hold a column that is not known before surgery.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    version: Annotated[int, Field(ge=1)]
    description: str
    missing_codes: tuple[str, ...] = ()
    patient_id_column: str
    baseline_score_column: str | None = None
    """The published risk score that the model is compared with; never an input."""
    features: tuple[str, ...]
    endpoint: Endpoint
    imaging: ImagingExpectations | None = None
    minimum_cell: Annotated[int, Field(ge=1)] = 10
    """Counts below it do not leave a site."""
    minimum_patients: Annotated[int, Field(ge=1)] = 1
    """Patients with an outcome that a site needs to take part in a run."""
    columns: dict[str, ClinicalColumn]
    checks: tuple[Check, ...] = ()
    """What must hold between columns; read where present, never required."""

    @model_validator(mode="after")
    def _check_references(self) -> "DataContract":
        unknown = [name for name in self._references() if name not in self.columns]
        if unknown:
            raise ValueError(f"no such column in columns: {', '.join(unknown)}")
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        _refuse_forbidden_features(self)
        return self

    def _faults(self) -> Iterable[str]:
        """Yield what is wrong between sections; every named column exists."""
        types = {name: column.type for name, column in self.columns.items()}
        time = self.columns[self.endpoint.time_column]
        if len(set(self.features)) != len(self.features):
            yield "features names a column twice"
        if types[self.patient_id_column] != "identifier":
            yield "patient_id_column must be of type identifier"
        if time.type != "number":
            yield "endpoint.time_column must be of type number"
        elif time.minimum is None or time.minimum < 0:
            yield "endpoint.time_column needs a minimum of 0 or more"
        if types[self.endpoint.event_column] != "binary":
            yield "endpoint.event_column must be of type binary"
        if self.imaging is not None:
            yield from self.imaging.faults_of(self.columns)
        yield from faults_of_checks(self.checks, self.columns)

    def _references(self) -> Iterable[str]:
        yield from (self.patient_id_column, *self.features)
        yield from (self.endpoint.time_column, self.endpoint.event_column)
        if self.baseline_score_column:
            yield self.baseline_score_column
        if self.imaging is not None:
            yield from self.imaging.references()

    def role_of(self, name: str) -> Role:
        """Return what the study does with a column.

        Nothing is said twice in a contract: the role follows from `features`,
        `endpoint`, the columns named at the top, and from when the column is known.
        """
        column = self.columns[name]
        if name == self.patient_id_column or column.known == "identifier":
            return "identifier"
        if name in (self.endpoint.time_column, self.endpoint.event_column):
            return "outcome"
        if column.known != "before_surgery":
            return "forbidden"
        if name in self.features:
            return "feature"
        if name == self.baseline_score_column:
            return "baseline"
        return "date" if column.type == "date" else "available"

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The columns a table must have, in the contract's order."""
        needed = {
            self.patient_id_column,
            self.endpoint.time_column,
            self.endpoint.event_column,
            *self.features,
        }
        return tuple(n for n, c in self.columns.items() if c.required or n in needed)

    @property
    def fewest_patients(self) -> int:
        """The fewest patients with an outcome with which a site joins a run."""
        return max(self.minimum_cell, self.minimum_patients)

    @property
    def num_clinical_features(self) -> int:
        """How many numbers the clinical part of the model receives."""
        return sum(self.columns[name].num_inputs for name in self.features)

    def sha256(self) -> str:
        """Return the hash of the content; layout and order of keys do not matter."""
        content = self.model_dump(mode="json")
        # The order of a binary column's codes decides which is 1, so it is content.
        for name, column in self.columns.items():
            content["columns"][name]["categories"] = list(column.categories.items())
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def without_imaging(self) -> "DataContract":
        """Return the same contract for tables alone: every scan counts as missing."""
        return self.model_copy(update={"imaging": None})

    def with_features(self, names: Iterable[str]) -> "DataContract":
        """Return the same contract with other features.

        Raises:
            ConfigError: A name is no column, or not known before surgery.
        """
        content = self.model_dump(mode="json") | {"features": list(names)}
        return _validate(content, where="features")


def load_contract(path: Path) -> DataContract:
    """Read a contract, or report all of its faults at once.

    Raises:
        ConfigError: The file does not exist, is no TOML, or has faults; or a feature is
            not known before surgery.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: the data contract cannot be read ({error.strerror}).",
            remedy="Give the path of the contract that the coordinator sent.",
        ) from error
    return _parse(text, where=path.name)


def shipped_contract(name: str) -> DataContract:
    """Return a contract that comes with the product, such as `crlm`.

    Raises:
        ConfigError: There is none of this name.
    """
    folder = resources.files("acfnet_core.cohort.contracts")
    known = sorted(
        file.name.removesuffix(".toml")
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    )
    if name not in known:
        raise ConfigError(
            "config.not_found",
            f"No contract named {name!r} is shipped; there are: {', '.join(known)}.",
            remedy="Choose one of these, or give the path of your own contract.",
        )
    return _parse((folder / f"{name}.toml").read_bytes(), where=f"{name}.toml")


def find_contract(name_or_path: str) -> DataContract:
    """Return a shipped contract by its name, or the one in a TOML file.

    Raises:
        ConfigError: There is neither, or the file has faults.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return load_contract(path)
    return shipped_contract(name_or_path)


def _parse(content: bytes, *, where: str) -> DataContract:
    try:
        parsed = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "config.contract_invalid",
            f"{where}: is not valid TOML: {error}",
            remedy="Correct the line that the message names.",
        ) from error
    return _validate(parsed, where=where)


def _validate(content: dict[str, Any], *, where: str) -> DataContract:
    try:
        # By way of JSON a strict model still takes an array for a tuple.
        return DataContract.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        lines = [
            f"{where}: {'.'.join(map(str, fault['loc'])) or 'contract'}: "
            f"{fault['msg']}{_found(fault['input'])}"
            for fault in error.errors(include_url=False)
        ]
        raise ConfigError(
            "config.contract_invalid",
            "\n".join(lines),
            remedy="Correct every line above; docs/data-contract.md lists the fields.",
        ) from error


def _found(value: object) -> str:
    return "" if isinstance(value, dict) else f" (got {value!r})"


def _refuse_forbidden_features(contract: DataContract) -> None:
    lines = []
    for name in contract.features:
        column = contract.columns[name]
        if column.known != "before_surgery":
            lines.append(f"{name}: {_REASONS[column.known]}")
        elif column.type not in _NUMERIC_TYPES:
            lines.append(f"{name}: a {column.type} is not a model input")
    if lines:
        raise ConfigError(
            "config.forbidden_feature",
            "These columns cannot be features of a model that speaks before surgery:\n"
            + "\n".join(lines),
            remedy="Take them out of `features`.",
        )
