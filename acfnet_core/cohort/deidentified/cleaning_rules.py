"""How one allowed attribute is cleaned: each rule makes a new value, or none.

A rule never hands a text of the source on. A word is kept only if it is in a list, a
number is read and must lie between bounds, a UID and a day are replaced by keyed ones.
"""

import math
import re
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydicom.valuerep import format_number_as_ds

from acfnet_core.cohort.deidentified.keyed_names import PatientNames

_MAX_DS_CHARACTERS = 16
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_AGE = re.compile(r"(\d{3})([DWMY])")
_OLDEST_YEARS = 89


@runtime_checkable
class Rule(Protocol):
    """Makes the new value of an attribute."""

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the new value, or None to leave the attribute out.

        Args:
            values: Of the source; empty where it lacks the attribute or its value.
            vr: Value representation in the data dictionary.
            names: What stands for the patient's identifiers.
        """
        ...


AllowList = Mapping[str, "Rule | Items"]
"""Keyword of an attribute -> how it is cleaned; all others are left out."""


@dataclass(frozen=True)
class Items:
    """A sequence, rebuilt item by item by an allow-list of its own."""

    allowed: AllowList


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """The same value in every file, whatever the source has; "" writes it empty."""

    value: str | int

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the fixed value."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class Word:
    """Words of a closed list.

    Attributes:
        allowed: In capitals; other values are left out.
        otherwise: Written if no value is allowed; None leaves the attribute out.
    """

    allowed: frozenset[str]
    otherwise: str | None = None

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the values that are in the list."""
        words = [str(value).strip().upper() for value in values]
        kept = [word for word in words if word in self.allowed]
        return _unpack(kept) if kept else self.otherwise


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One short technical word, whose form leaves no room for anything else."""

    form: re.Pattern[str]
    otherwise: str | None = None

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the first value if it has the form."""
        text = str(values[0]).strip() if values else ""
        return text if self.form.fullmatch(text) else self.otherwise


@dataclass(frozen=True, kw_only=True)
class Prefixed:
    """A name known by its beginning, written in one spelling: beginning -> spelling."""

    spellings: tuple[tuple[str, str], ...]
    otherwise: str | None = None

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the spelling of the first beginning that fits."""
        text = str(values[0]).strip().upper() if values else ""
        for beginning, spelling in self.spellings:
            if text.startswith(beginning):
                return spelling
        return self.otherwise


@dataclass(frozen=True, kw_only=True)
class Number:
    """Numbers within bounds; if one is outside, none is kept.

    Attributes:
        otherwise: Written if there is no such number; None leaves the attribute out.
    """

    low: int
    high: int
    otherwise: str | None = None

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the numbers; a decimal string that DICOM allows stays as it is."""
        try:
            kept = [self._clean_one(value, vr) for value in values]
        except (TypeError, ValueError, OverflowError):
            return self.otherwise
        return _unpack(kept) if kept else self.otherwise

    def _clean_one(self, value: Any, vr: str) -> Any:
        number = float(value)
        if not (math.isfinite(number) and self.low <= number <= self.high):
            raise ValueError("the number is out of bounds")
        if vr == "DS":
            return _decimal_string(value, number)
        if vr in ("FL", "FD"):
            return number
        if not number.is_integer():
            raise ValueError("the number is not whole")
        return int(number)


@dataclass(frozen=True)
class KeyedUid:
    """UIDs of the source's own, each replaced by its keyed one."""

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the keyed UIDs."""
        uids = [names.uid(str(value)) for value in values if str(value).strip(" \0")]
        return _unpack(uids) if uids else None


@dataclass(frozen=True, kw_only=True)
class ShiftedDay:
    """A day, moved as all days of the patient are.

    Attributes:
        otherwise: Written if the source has no day; None leaves the attribute out.
    """

    otherwise: str | None = None

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the moved day."""
        moved = names.shift_dicom(str(values[0])) if values else ""
        return moved or self.otherwise


@dataclass(frozen=True)
class CappedAge:
    """An age; who is 90 or more is written as 090Y."""

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the age, capped."""
        text = str(values[0]).strip() if values else ""
        found = _AGE.fullmatch(text)
        if found is None:
            return None
        is_old = found[2] == "Y" and int(found[1]) > _OLDEST_YEARS
        return "090Y" if is_old else text


@dataclass(frozen=True)
class Pseudonym:
    """The patient's pseudonym, whatever the source has."""

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the pseudonym."""
        return names.pseudonym


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """Tags of a closed list, in attributes that point to others."""

    allowed: frozenset[int]

    def clean(self, values: list[Any], vr: str, names: PatientNames) -> Any:
        """Return the tags if all are in the list."""
        try:
            tags = [int(value) for value in values]
        except (TypeError, ValueError):
            return None
        return _unpack(tags) if tags and self.allowed.issuperset(tags) else None


def values_of(value: Any) -> list[Any]:
    """Return an element's values, or a sequence's items; an empty one has none."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _unpack(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]


def _decimal_string(value: Any, number: float) -> str:
    """Return the source's own digits where they are a valid decimal string."""
    text = str(getattr(value, "original_string", value)).strip()
    is_valid = _DECIMAL.fullmatch(text) and len(text) <= _MAX_DS_CHARACTERS
    return text if is_valid else format_number_as_ds(number)
