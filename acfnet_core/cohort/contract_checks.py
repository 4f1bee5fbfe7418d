"""Rules between columns, which the coordinator writes into the contract.

A rule says what must hold in every row. It is kept apart from how a table is judged by
it (`table/cross_checks.py`). A row in which a value that decides the rule is missing is
not judged.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from acfnet_core.cohort.contract_columns import ClinicalColumn, ContractSection

Severity = Literal["fault", "warning"]

_ORDERED = ("number", "date")
_BINARY = ("binary",)
_NUMBER = ("number",)


class _Rule(ContractSection):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    meaning: str
    """What must hold, as a sentence for the site."""
    severity: Severity = "warning"
    """Whether a row that breaks the rule keeps the data from being prepared."""


class NotAfter(_Rule):
    """`earlier` is not above `later`: two numbers or two days."""

    kind: Literal["not_after"]
    earlier: str
    later: str

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return (self.earlier, _ORDERED), (self.later, _ORDERED)


class Implies(_Rule):
    """Where `premise` is 1, `conclusion` is 1."""

    kind: Literal["implies"]
    premise: str
    conclusion: str

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return (self.premise, _BINARY), (self.conclusion, _BINARY)


class EqualsAny(_Rule):
    """`flag` is 1 exactly where one of `any_of` is 1."""

    kind: Literal["equals_any"]
    flag: str
    any_of: Annotated[tuple[str, ...], Field(min_length=1)]

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return tuple((name, _BINARY) for name in (self.flag, *self.any_of))


class AtLeast(_Rule):
    """`flag` is 1 exactly where `score` is `threshold` or more."""

    kind: Literal["at_least"]
    flag: str
    score: str
    threshold: float

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return (self.flag, _BINARY), (self.score, _NUMBER)


class SumOf(_Rule):
    """`total` differs from the sum of `parts` by `tolerance` at most."""

    kind: Literal["sum"]
    total: str
    parts: Annotated[tuple[str, ...], Field(min_length=2)]
    tolerance: Annotated[float, Field(ge=0)] = 0.0

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return tuple((name, _NUMBER) for name in (self.total, *self.parts))


class PositiveWhen(_Rule):
    """Where `flag` is 1, `number` is above 0: an event takes time."""

    kind: Literal["positive_when"]
    flag: str
    number: str

    def typed_columns(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return each column of the rule with the types that it may have."""
        return (self.flag, _BINARY), (self.number, _NUMBER)


Check = Annotated[
    NotAfter | Implies | EqualsAny | AtLeast | SumOf | PositiveWhen,
    Field(discriminator="kind"),
]


def columns_of(check: Check) -> tuple[str, ...]:
    """Return the columns that a rule compares, each once."""
    return tuple(dict.fromkeys(name for name, _ in check.typed_columns()))


def faults_of_checks(
    checks: tuple[Check, ...], columns: Mapping[str, ClinicalColumn]
) -> Iterator[str]:
    """Yield what is wrong with the rules of a contract."""
    names = [check.name for check in checks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"checks: two rules are called {name}"
    for check in checks:
        types = set()
        for name, allowed in check.typed_columns():
            if name not in columns:
                yield f"checks.{check.name}: no such column in columns: {name}"
            elif columns[name].type not in allowed:
                yield f"checks.{check.name}: {name} must be a {' or '.join(allowed)}"
            else:
                types.add(columns[name].type)
        if len(types) > 1 and check.kind == "not_after":
            yield f"checks.{check.name}: compares a number with a date"
