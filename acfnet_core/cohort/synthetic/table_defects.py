"""Faults of a made-up table: one row each, and the rule that must find it."""

from collections.abc import Sequence
from dataclasses import dataclass

from acfnet_core.cohort.synthetic.table import RESECTION_DATE_COLUMN, Cell


@dataclass(frozen=True, kw_only=True)
class TableDefect:
    """One kind of fault in one row.

    Attributes:
        column: The public cohort's name.
        rule: Which rule of the table's check must name the row.
        cell: What stands in the cell; None repeats the whole row before.
        meaning: What was done, in plain words.
    """

    column: str
    rule: str
    cell: Cell | None
    meaning: str


TABLE_DEFECTS: dict[str, TableDefect] = {
    "old_age": TableDefect(
        column="age", rule="above_maximum", cell="250", meaning="an age of 250 years"
    ),
    "young_age": TableDefect(
        column="age", rule="below_minimum", cell="4", meaning="an age of 4 years"
    ),
    "strange_code": TableDefect(
        column="sex", rule="unknown_code", cell="x", meaning="a code that nobody knows"
    ),
    "day_that_is_none": TableDefect(
        column=RESECTION_DATE_COLUMN,
        rule="not_a_date",
        cell="31.02.1993 ?",
        meaning="a day that is none",
    ),
    "words_for_a_number": TableDefect(
        column="body_mass_index",
        rule="not_a_number",
        cell="overweight",
        meaning="words where a number belongs",
    ),
    "repeated_row": TableDefect(
        column="Patient-ID",
        rule="duplicate_identifier",
        cell=None,
        meaning="the row before, once more in place of the patient's own",
    ),
    "no_identifier": TableDefect(
        column="Patient-ID",
        rule="missing_identifier",
        cell="",
        meaning="no identifier",
    ),
}
"""Kind -> fault."""


def spoil_row(rows: Sequence[dict[str, Cell]], index: int, defect: TableDefect) -> None:
    """Plant a fault into a row of cells.

    Args:
        rows: The table's rows; the one at `index` is changed.
        index: From 0, and from 1 where the row before is repeated.
        defect: What is planted.
    """
    if defect.cell is None:
        rows[index].update(rows[index - 1])
    else:
        rows[index][defect.column] = defect.cell
