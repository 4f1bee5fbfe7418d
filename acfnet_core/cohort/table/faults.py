"""What is wrong with a table: rule, columns, count and rows, never a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from acfnet_core.cohort.contract_checks import Severity

_NUM_ROWS_NAMED = 5
RULE_TEXTS = {
    "missing_identifier": "has no identifier",
    "duplicate_identifier": "repeats an identifier of an earlier row",
    "not_a_number": "is not a number written as 12.5",
    "decimal_comma": "has a comma; if it is a decimal comma, set "
    'decimal_mark = "," in [data.table] of site.toml',
    "decimal_point": "has a point, but decimal_mark in site.toml is a comma",
    "percent_sign": "has a percent sign; name the column under percent in "
    "[data.table] of site.toml",
    "no_percent_sign": "lacks the percent sign that site.toml says it has",
    "below_minimum": "is below the contract's minimum",
    "above_maximum": "is above the contract's maximum",
    "unknown_code": "is none of the codes; give the site's own in "
    "[data.table.codes] of site.toml",
    "not_a_date": "is not a date in the format asked for; give the site's own in "
    "[data.table.date_formats] of site.toml",
}
"""What each rule about single cells says of a cell that breaks it."""


def row_number(index: int) -> int:
    """Return a row's number as a spreadsheet counts: the header is 1."""
    return index + 2


@dataclass(frozen=True, kw_only=True)
class TableFault:
    """One kind of fault in one column, or between several; without any value.

    Attributes:
        rule: Which rule was broken; of a rule between columns, its name.
        columns: The contract's names of the columns.
        severity: A warning does not keep the data from being prepared.
        meaning: What must hold between the columns; empty for a rule about cells.
        count: In how many rows.
        num_judged: Of how many rows; those without a value are not judged.
        first_rows: The first of them, counted as a spreadsheet does: the header is 1.
    """

    rule: str
    columns: tuple[str, ...]
    severity: Severity
    meaning: str
    count: int
    num_judged: int
    first_rows: tuple[int, ...]

    @property
    def column(self) -> str:
        """The columns in one word or line."""
        return ", ".join(self.columns)

    def describe(self) -> str:
        """Return the fault as a line for people."""
        named = ", ".join(map(str, self.first_rows))
        more = ", ..." if self.count > len(self.first_rows) else ""
        where = f"row{'' if self.count == 1 else 's'} {named}{more}"
        if self.meaning:
            return (
                f"{self.rule}: broken in {self.count} of {self.num_judged} rows: "
                f"{self.meaning} ({where})"
            )
        return (
            f"column {self.column}: {self.count} x a value that "
            f"{RULE_TEXTS[self.rule]} ({where})"
        )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """All rows that break one rule, by their index.

    Attributes:
        meaning: As in `TableFault`.
        indices: From 0, in order.
    """

    rule: str
    columns: tuple[str, ...]
    severity: Severity
    num_judged: int
    meaning: str = ""
    indices: list[int] = field(default_factory=list)

    def summary(self) -> TableFault:
        """Return the finding with its first rows alone."""
        rows = tuple(row_number(index) for index in self.indices)
        return TableFault(
            rule=self.rule,
            columns=self.columns,
            severity=self.severity,
            meaning=self.meaning,
            count=len(rows),
            num_judged=self.num_judged,
            first_rows=rows[:_NUM_ROWS_NAMED],
        )


def summarise_findings(
    findings: Sequence[Finding], severity: Severity
) -> tuple[TableFault, ...]:
    """Return the findings of one severity, in the order in which they were met."""
    return tuple(one.summary() for one in findings if one.severity == severity)
