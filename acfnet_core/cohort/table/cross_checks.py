"""A table judged by the contract's rules between columns.

Each row gives a rule True, False or None: it holds, it is broken, or a value that would
decide it is missing.
"""

import math
from collections.abc import Mapping, Sequence

from acfnet_core.cohort.contract_checks import (
    AtLeast,
    Check,
    EqualsAny,
    Implies,
    NotAfter,
    PositiveWhen,
    SumOf,
    columns_of,
)
from acfnet_core.cohort.table.cell_values import Value
from acfnet_core.cohort.table.faults import Finding

_ROUNDING = 1e-9
"""Decimal fractions are not exact in binary: 0.1 + 0.2 is not above 0.3."""

Columns = Mapping[str, Sequence[Value]]


def judge_rows(
    checks: Sequence[Check], columns: Columns, num_rows: int
) -> list[Finding]:
    """Return a finding for each rule that a row breaks.

    Args:
        checks: The contract's rules; one whose columns are not all there is left out.
        columns: The converted columns of the table, each of `num_rows` values.
        num_rows: Rows of the table.
    """
    findings = []
    for check in checks:
        names = columns_of(check)
        if not all(name in columns for name in names):
            continue
        verdicts = [
            _holds(check, {name: columns[name][index] for name in names})
            for index in range(num_rows)
        ]
        broken = [index for index, holds in enumerate(verdicts) if holds is False]
        if broken:
            findings.append(
                Finding(
                    rule=check.name,
                    columns=names,
                    severity=check.severity,
                    num_judged=num_rows - verdicts.count(None),
                    meaning=check.meaning,
                    indices=broken,
                )
            )
    return findings


def _holds(check: Check, row: Mapping[str, Value]) -> bool | None:
    """Judge one row."""
    match check:
        case NotAfter():
            return _is_not_after(row[check.earlier], row[check.later])
        case Implies():
            return _implies(_flag(row[check.premise]), _flag(row[check.conclusion]))
        case EqualsAny():
            expected = _any([_flag(row[name]) for name in check.any_of])
            return _agree(_flag(row[check.flag]), expected)
        case AtLeast():
            score = _number(row[check.score])
            reached = None if score is None else score >= check.threshold - _ROUNDING
            return _agree(_flag(row[check.flag]), reached)
        case SumOf():
            return _adds_up(check, row)
        case PositiveWhen():
            number = _number(row[check.number])
            is_positive = None if number is None else number > 0
            return _implies(_flag(row[check.flag]), is_positive)


def _number(value: Value) -> float | None:
    return value if isinstance(value, float) else None


def _flag(value: Value) -> bool | None:
    """Return a binary column's value: its second code is its 1."""
    return None if value is None else value == 1.0


def _is_not_after(earlier: Value, later: Value) -> bool | None:
    if isinstance(earlier, float) and isinstance(later, float):
        return earlier <= later + _ROUNDING
    if earlier is None or later is None:
        return None
    # The contract has seen to it that both are days.
    return str(earlier) <= str(later)


def _implies(premise: bool | None, conclusion: bool | None) -> bool | None:
    if premise is False or conclusion is True:
        return True
    return None if premise is None or conclusion is None else False


def _any(flags: Sequence[bool | None]) -> bool | None:
    if True in flags:
        return True
    return None if None in flags else False


def _agree(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else one == other


def _adds_up(check: SumOf, row: Mapping[str, Value]) -> bool | None:
    total = _number(row[check.total])
    parts = [_number(row[name]) for name in check.parts]
    if total is None:
        return None
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return math.fabs(math.fsum(known) - total) <= check.tolerance + _ROUNDING
