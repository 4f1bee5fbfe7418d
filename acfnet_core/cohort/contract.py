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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acfnet_core.canonical import canonical_json
from acfnet_core.errors import ConfigError

ColumnType = Literal["number", "binary", "category", "date", "text", "identifier"]
Channel = Literal["ct", "liver", "tumour", "vessel"]
CHANNELS: tuple[Channel, ...] = ("ct", "liver", "tumour", "vessel")
"""The channels of every prepared scan, in the order of the tensor's channel axis."""

_NUMERIC_TYPES = ("number", "binary", "category")
_REASONS = {
    "specimen": "known only from the resected specimen, after surgery",
    "outcome": "part of the outcome that is to be predicted",
    "identifier": "may identify the patient",
}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Standardisation(_Section):
    """How a number becomes a model input: (transform(x) - mean) / standard_deviation.

    The constants are fixed in the contract, so that no site's data decides them.
    """

    transform: Literal["identity", "log1p"] = "identity"
    mean: float = 0.0
    standard_deviation: Annotated[float, Field(gt=0)] = 1.0


class ClinicalColumn(_Section):
    """One column of the clinical table: meaning, allowed values, when it is known."""

    type: ColumnType
    known: Literal["before_surgery", "specimen", "outcome", "identifier"]
    meaning: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: dict[str, str] = Field(default_factory=dict)
    """Code in the table -> meaning. A binary column's second code is its 1."""
    missing_codes: tuple[str, ...] = ()
    """Codes for a missing value beside the contract's own and the empty cell."""
    date_format: str = "%Y-%m-%d"
    required: bool = False
    """Whether the table must have the column; features and endpoint always must."""
    standardise: Standardisation = Standardisation()

    @model_validator(mode="after")
    def _check_values(self) -> "ClinicalColumn":
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low > high:
            raise ValueError(f"minimum {low:g} is above maximum {high:g}")
        if self.type == "binary" and len(self.codes) != 2:
            raise ValueError("a binary column has exactly two categories")
        if self.type == "category" and len(self.codes) < 2:
            raise ValueError("a category column lists its categories")
        return self

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of a binary or category column, in the order of the contract."""
        if self.type == "binary" and not self.categories:
            return ("0", "1")
        return tuple(self.categories)

    @property
    def num_inputs(self) -> int:
        """How many model inputs the column gives: one, or one for each category."""
        return len(self.codes) if self.type == "category" else 1


class Endpoint(_Section):
    """What is predicted: the time to an event, and whether it was seen."""

    name: str
    meaning: str
    time_column: str
    event_column: str


class ImagingExpectations(_Section):
    """Which scans are used and the grid on which they are laid."""

    grid_shape: tuple[int, int, int]
    """Voxels along (depth, height, width)."""
    grid_spacing_mm: tuple[float, float, float]
    """Voxel size along (depth, height, width)."""
    window_centre_hu: float
    window_width_hu: Annotated[float, Field(gt=0)]
    window_clip: Annotated[float, Field(gt=0)]
    """CT is stored in HU and shown as (HU - centre) / width, clipped to +-clip."""
    segments: dict[Literal["liver", "tumour", "vessel"], tuple[str, ...]]
    """Channel -> labels, any case; a final * stands for any ending."""
    preferred_segmentation: str = "Segmentation"
    """Of several segmentations of a series, the SeriesDescription that is taken."""
    resection_date_column: str | None = None
    earliest_months: float
    latest_months: float
    """Scans outside [earliest, latest], counted from the resection, are refused."""
    max_scans: Annotated[int, Field(ge=1)] = 3
    """Of more time points, those nearest to the resection are kept."""
    min_slices: Annotated[int, Field(ge=2)] = 3
    max_slice_spacing_mm: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _check_imaging(self) -> "ImagingExpectations":
        if min(self.grid_shape) < 1 or min(self.grid_spacing_mm) <= 0:
            raise ValueError("the grid's shape and spacing must be positive")
        if self.earliest_months > self.latest_months:
            raise ValueError("earliest_months is after latest_months")
        if not self.segments.get("liver"):
            raise ValueError("segments must name a liver: the crop is centred on it")
        return self


class DataContract(_Section):
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
    columns: dict[str, ClinicalColumn]

    @model_validator(mode="after")
    def _check_references(self) -> "DataContract":
        unknown = [name for name in self._references() if name not in self.columns]
        if unknown:
            raise ValueError(f"no such column in columns: {', '.join(unknown)}")
        if len(set(self.features)) != len(self.features):
            raise ValueError("features names a column twice")
        if self.columns[self.patient_id_column].type != "identifier":
            raise ValueError("patient_id_column must be of type identifier")
        if self.columns[self.endpoint.time_column].type != "number":
            raise ValueError("endpoint.time_column must be of type number")
        if self.columns[self.endpoint.event_column].type != "binary":
            raise ValueError("endpoint.event_column must be of type binary")
        _refuse_forbidden_features(self)
        return self

    def _references(self) -> Iterable[str]:
        yield from (self.patient_id_column, *self.features)
        yield from (self.endpoint.time_column, self.endpoint.event_column)
        resection = self.imaging.resection_date_column if self.imaging else None
        yield from filter(None, (self.baseline_score_column, resection))

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
