"""A column of the data contract: its meaning, its values, and when it is known."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ColumnType = Literal["number", "binary", "category", "date", "text", "identifier"]
Known = Literal["before_surgery", "specimen", "outcome", "identifier"]
Role = Literal[
    "identifier", "feature", "outcome", "baseline", "date", "available", "forbidden"
]
"""What a study does with a column; `available` could be a feature and is none."""

_BINARY_CODES = 2


class ContractSection(BaseModel):
    """A part of the contract: frozen, strict, without keys that are not named."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class Standardisation(ContractSection):
    """How a number becomes a model input: (transform(x) - mean) / standard_deviation.

    The constants are fixed in the contract, so that no site's data decides them.
    """

    transform: Literal["identity", "log1p"] = "identity"
    mean: float = 0.0
    standard_deviation: Annotated[float, Field(gt=0)] = 1.0


class Concept(ContractSection):
    """What a column is called in a public terminology; for people and exporters."""

    system: Literal["SNOMED-CT", "LOINC", "mCODE", "NCIt"]
    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class ClinicalColumn(ContractSection):
    """One column of the clinical table: meaning, allowed values, when it is known."""

    type: ColumnType
    known: Known
    meaning: str
    unit: str | None = None
    concept: Concept | None = None
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
        if self.type == "binary" and len(self.codes) != _BINARY_CODES:
            raise ValueError("a binary column has exactly two categories")
        if self.type == "category" and len(self.codes) < _BINARY_CODES:
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
