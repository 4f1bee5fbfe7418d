import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from acfnet_core.cohort.contract_checks import Check
from acfnet_core.cohort.table.cell_values import Value
from acfnet_core.cohort.table.cross_checks import judge_rows
from acfnet_core.cohort.table.faults import Finding

RULES: TypeAdapter[Check] = TypeAdapter(Check)
NOT_AFTER = {"kind": "not_after", "earlier": "a", "later": "b"}
IMPLIES = {"kind": "implies", "premise": "a", "conclusion": "b"}
ANY = {"kind": "equals_any", "flag": "a", "any_of": ("b", "c")}
AT_LEAST = {"kind": "at_least", "flag": "a", "score": "b", "threshold": 3.0}
SUM = {"kind": "sum", "total": "a", "parts": ("b", "c"), "tolerance": 0.01}
POSITIVE = {"kind": "positive_when", "flag": "a", "number": "b"}
DAY = datetime.date(1992, 6, 20)
LATER = datetime.date(1992, 10, 1)


def _check(content: Mapping[str, Any], **changes: Any) -> Check:
    whole = {"name": "rule", "meaning": "it holds", **content, **changes}
    return RULES.validate_python(whole)


def _judge(content: Mapping[str, Any], **columns: list[Value]) -> list[Finding]:
    num_rows = len(next(iter(columns.values())))
    return judge_rows([_check(content)], columns, num_rows)


def _verdict(content: Mapping[str, Any], *values: Value) -> bool | None:
    """Judge one row, beside one that always breaks the rule."""
    broken: dict[str, tuple[Value, ...]] = {
        "not_after": (2.0, 1.0),
        "implies": (1.0, 0.0),
        "equals_any": (1.0, 0.0, 0.0),
        "at_least": (1.0, 0.0),
        "sum": (1.0, 0.0, 0.0),
        "positive_when": (1.0, 0.0),
    }
    rows = zip("abc", values, broken[content["kind"]], strict=False)
    (finding,) = _judge(content, **{name: [one, bad] for name, one, bad in rows})
    if finding.num_judged == 1:
        return None
    return 0 not in finding.indices


@pytest.mark.parametrize(
    ("content", "values", "verdict"),
    [
        (NOT_AFTER, (1.0, 1.0), True),
        (NOT_AFTER, (0.1 + 0.2, 0.3), True),
        (NOT_AFTER, (1.5, 1.0), False),
        (NOT_AFTER, (None, 1.0), None),
        (NOT_AFTER, (DAY, LATER), True),
        (NOT_AFTER, (LATER, DAY), False),
        (IMPLIES, (1.0, 1.0), True),
        (IMPLIES, (0.0, None), True),
        (IMPLIES, (None, 1.0), True),
        (IMPLIES, (1.0, 0.0), False),
        (IMPLIES, (1.0, None), None),
        (ANY, (1.0, 0.0, 1.0), True),
        (ANY, (0.0, 0.0, 0.0), True),
        (ANY, (0.0, 1.0, None), False),
        (ANY, (1.0, 0.0, 0.0), False),
        (ANY, (1.0, 0.0, None), None),
        (AT_LEAST, (1.0, 3.0), True),
        (AT_LEAST, (0.0, 2.0), True),
        (AT_LEAST, (0.0, 3.0), False),
        (AT_LEAST, (1.0, 2.0), False),
        (AT_LEAST, (1.0, None), None),
        (SUM, (0.3, 0.1, 0.2), True),
        (SUM, (0.31, 0.1, 0.2), True),
        (SUM, (0.32, 0.1, 0.2), False),
        (SUM, (0.3, 0.1, None), None),
        (POSITIVE, (1.0, 0.5), True),
        (POSITIVE, (0.0, 0.0), True),
        (POSITIVE, (1.0, 0.0), False),
        (POSITIVE, (1.0, None), None),
    ],
)
def test_a_row_holds_breaks_or_leaves_open_a_rule(
    content: dict[str, Any], values: tuple[Value, ...], verdict: bool | None
) -> None:
    assert _verdict(content, *values) is verdict


def test_a_rule_that_every_row_keeps_gives_no_finding() -> None:
    assert _judge(NOT_AFTER, a=[1.0, 2.0], b=[1.0, 3.0]) == []


def test_a_rule_with_a_column_that_is_not_there_is_left_out() -> None:
    assert _judge(SUM, a=[1.0], b=[7.0]) == []


def test_a_finding_names_rule_columns_rows_and_severity() -> None:
    check = _check(NOT_AFTER, severity="fault")
    columns: dict[str, list[Value]] = {"a": [1.0, 5.0, None], "b": [2.0, 4.0, 4.0]}
    (finding,) = judge_rows([check], columns, 3)
    fault = finding.summary()
    assert (fault.rule, fault.columns, fault.severity) == ("rule", ("a", "b"), "fault")
    assert (fault.count, fault.num_judged, fault.first_rows) == (1, 2, (3,))
    assert fault.describe() == "rule: broken in 1 of 2 rows: it holds (row 3)"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(*[st.none() | st.sampled_from((0.0, 1.0))] * 3),
        min_size=1,
        max_size=12,
    )
)
def test_equals_any_agrees_with_every_completion_of_missing_flags(
    rows: list[tuple[float | None, ...]],
) -> None:
    def holds(a: float, b: float, c: float) -> bool:
        return (a == 1.0) == (b == 1.0 or c == 1.0)

    broken = []
    for index, row in enumerate(rows):
        options = [(0.0, 1.0) if value is None else (value,) for value in row]
        completions = {
            holds(a, b, c) for a in options[0] for b in options[1] for c in options[2]
        }
        if completions == {False}:
            broken.append(index)
    columns: dict[str, list[Value]] = {
        name: [row[position] for row in rows] for position, name in enumerate("abc")
    }
    found = judge_rows([_check(ANY)], columns, len(rows))
    assert [index for one in found for index in one.indices] == broken
