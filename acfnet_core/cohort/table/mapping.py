"""How a site's table differs from the contract: in names, and in how it writes values.

Nothing is guessed. A decimal comma, a percent sign, another date format or the site's
own codes are faults until the site has said so here.
"""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from acfnet_core.cohort.contract import ClinicalColumn, DataContract
from acfnet_core.config import Section
from acfnet_core.errors import ConfigError

Delimiter = Literal[",", ";", "\t", "|"]
Encoding = Literal["utf-8", "utf-16", "latin-1", "cp1252"]

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Text = Annotated[str, StringConstraints(max_length=200)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_PROBES = (datetime.date(1931, 12, 28), datetime.date(2001, 2, 3))
"""A format that loses the century or swaps day and month gives other days back."""


def _check_date_format(text: str) -> str:
    try:
        kept = all(
            datetime.datetime.strptime(day.strftime(text), text).date() == day
            for day in _PROBES
        )
    except ValueError:
        kept = False
    if not kept:
        raise ValueError(
            "a date format gives day, month and a year of four digits, as %d.%m.%Y"
        )
    return text


_DateFormat = Annotated[_Text, AfterValidator(_check_date_format)]


class TableDialect(Section):
    """How a site writes its table; section [data.table] of site.toml.

    Columns go by the contract's names.
    """

    decimal_mark: Literal[".", ","] = "."
    """Of numbers written as text; a workbook's own numbers have none."""
    delimiter: Delimiter | None = None
    """Between the columns of a csv file; unset, the one of , ; and tab in the header.
    """
    encoding: Encoding = "utf-8"
    """Of a csv file; a byte order mark may be there or not."""
    sheet: Annotated[int, Field(ge=1)] | _Name = 1
    """Name or number of the workbook's sheet; the first is 1."""
    missing_codes: tuple[_Text, ...] = ()
    """Codes for a missing value beside the contract's and the empty cell."""
    percent: tuple[_Name, ...] = ()
    """Columns written as 70%, which is 0.7; every value has the sign."""
    date_formats: dict[_Name, _DateFormat] = Field(default_factory=dict)
    """Column -> how its days are written, for strptime; else as the contract says."""
    codes: dict[_Name, Annotated[dict[_Text, _Text], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    """Column -> the site's code -> the contract's. No other code is then taken."""
    unit_factors: dict[_Name, _Factor] = Field(default_factory=dict)
    """Column -> what its numbers are multiplied by: 0.1 for mm where cm are asked."""

    @model_validator(mode="after")
    def _check_scales(self) -> "TableDialect":
        both = sorted(set(self.percent) & set(self.unit_factors))
        if both:
            raise ValueError(f"percent and unit_factors both name {', '.join(both)}")
        return self


PLAIN = TableDialect()
"""The dialect of a table that is written as the contract says."""


@dataclass(frozen=True, kw_only=True)
class TableMapping:
    """What a site says of its own table; sections [data.columns] and [data.table].

    Attributes:
        column_names: The site's heading -> the contract's name.
        dialect: How values are written.
    """

    column_names: Mapping[str, str] = field(default_factory=dict)
    dialect: TableDialect = PLAIN

    def content(self) -> dict[str, object]:
        """Return what has been said, for hashing; a setting left as it is is absent."""
        dialect = self.dialect.model_dump(mode="json", exclude_defaults=True)
        return {"column_names": dict(self.column_names), "dialect": dialect}


AS_AGREED = TableMapping()
"""The mapping of a table that is as the contract has it."""


def refuse_unfit(mapping: TableMapping, contract: DataContract) -> None:
    """Refuse a mapping that names what the contract does not have.

    Raises:
        ConfigError: With all faults at once.
    """
    faults = list(_faults(mapping, contract.columns))
    if faults:
        raise ConfigError(
            "config.invalid",
            "\n".join(faults),
            remedy="Correct [data.columns] and [data.table] in site.toml, or in the "
            "file that describes the cohort; contract.toml lists the columns.",
        )


def _faults(
    mapping: TableMapping, columns: Mapping[str, ClinicalColumn]
) -> Iterator[str]:
    unknown = sorted(set(mapping.column_names.values()) - set(columns))
    if unknown:
        yield f"data.columns: the contract has no column {', '.join(unknown)}"
    dialect = mapping.dialect
    settings = (
        ("date_formats", tuple(dialect.date_formats), ("date",)),
        ("codes", tuple(dialect.codes), ("binary", "category")),
        ("percent", dialect.percent, ("number",)),
        ("unit_factors", tuple(dialect.unit_factors), ("number",)),
    )
    for setting, names, types in settings:
        for name in names:
            if name not in columns:
                yield f"data.table.{setting}: the contract has no column {name}"
            elif columns[name].type not in types:
                wanted = " or ".join(types)
                yield (
                    f"data.table.{setting}: {name} is of type {columns[name].type}; "
                    f"expected {wanted}"
                )
    for name, codes in dialect.codes.items():
        known = columns[name].codes if name in columns else ()
        strange = sorted(set(codes.values()) - set(known))
        if known and strange:
            yield (
                f"data.table.codes.{name}: the contract has no code "
                f"{', '.join(strange)}; it has {', '.join(known)}"
            )
