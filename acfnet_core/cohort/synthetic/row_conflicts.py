"""Contradictions between the columns of one row, and the rules that must name them.

Every cell can be read, so a table with them can be prepared: the contract's rules
between columns warn. Each kind breaks the rules that it names and no other, which only
holds for rows in which it `fits`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acfnet_core.cohort.synthetic.table import MISSING, Cell

Row = Mapping[str, Cell]

_SURVIVAL = "overall_survival_months"
_DISEASE_FREE = "months_to_DFS_progression"
_LIVER_FREE = "months_to_liver_DFS_progression"
_RECURRENCE = "progression_or_recurrence"
_LIVER_RECURRENCE = "progression_or_recurrence_liveronly"
_EVENT = "vital_status_DFS"
_LIVER_EVENT = "vital_status_liver_DFS"
_RESPONSE = "total_response_percent"

_LATER_MONTHS = 3.0
_SHORTEST_MONTHS = 0.2
"""Months are written in tenths: half of a shorter time would be no time."""
_OTHER_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class RowConflict:
    """One kind of contradiction.

    Attributes:
        rules: The contract's rules between columns that must name the row.
        meaning: What was done, in plain words.
        fits: Whether it can be planted in a row.
        changes: The new cells of a row, by the public cohort's names.
    """

    rules: tuple[str, ...]
    meaning: str
    fits: Callable[[Row], bool]
    changes: Callable[[Row], dict[str, Cell]]


def _number(row: Row, name: str) -> float:
    return float(str(row[name]))


def _is_known(name: str) -> Callable[[Row], bool]:
    return lambda row: row[name] != MISSING


def _is_long(name: str) -> Callable[[Row], bool]:
    return lambda row: _number(row, name) >= _SHORTEST_MONTHS


def _half_of(row: Row, name: str) -> float:
    # Downwards, so that it is less: 0.3 would else be halved to 0.2.
    return _number(row, name) * 10 // 2 / 10


def _turned(flag: str, rule: str, meaning: str) -> RowConflict:
    """Return the conflict of a flag that says the opposite."""
    return RowConflict(
        rules=(rule,),
        meaning=meaning,
        fits=_is_known(flag),
        changes=lambda row: {flag: 1 - int(_number(row, flag))},
    )


def _other_response(row: Row) -> dict[str, Cell]:
    total = _number(row, _RESPONSE)
    step = _OTHER_SHARE if total <= 1 - _OTHER_SHARE else -_OTHER_SHARE
    return {_RESPONSE: round(total + step, 1)}


ROW_CONFLICTS: dict[str, RowConflict] = {
    "recurrence_after_death": RowConflict(
        rules=(
            "recurrence_not_after_last_contact",
            "liver_recurrence_not_after_last_contact",
        ),
        meaning="survival is half of the time without recurrence, of the liver too",
        fits=_is_long(_DISEASE_FREE),
        changes=lambda row: {_SURVIVAL: _half_of(row, _DISEASE_FREE)},
    ),
    "liver_recurrence_after_death": RowConflict(
        rules=("liver_recurrence_not_after_last_contact",),
        meaning="the liver is free of recurrence for longer than the patient lives",
        fits=_is_known(_SURVIVAL),
        changes=lambda row: {
            _LIVER_FREE: round(_number(row, _SURVIVAL) + _LATER_MONTHS, 1)
        },
    ),
    "liver_recurrence_before_any": RowConflict(
        rules=("any_recurrence_not_after_liver_recurrence",),
        meaning="the liver is free of recurrence for half as long as the whole body",
        fits=_is_long(_DISEASE_FREE),
        changes=lambda row: {_LIVER_FREE: _half_of(row, _DISEASE_FREE)},
    ),
    "liver_recurrence_that_is_none": RowConflict(
        rules=("liver_recurrence_is_recurrence",),
        meaning="a recurrence in the liver, and none anywhere",
        fits=lambda row: row[_RECURRENCE] == 0,
        changes=lambda row: {_LIVER_RECURRENCE: 1, _LIVER_EVENT: 1},
    ),
    "turned_event": _turned(
        _EVENT,
        "event_is_recurrence_or_death",
        "the event says the opposite of recurrence and death",
    ),
    "turned_liver_event": _turned(
        _LIVER_EVENT,
        "liver_event_is_liver_recurrence_or_death",
        "the liver event says the opposite of liver recurrence and death",
    ),
    "event_at_once": RowConflict(
        rules=("event_takes_time",),
        meaning="an event on the day of the resection",
        fits=lambda row: row[_EVENT] == 1,
        changes=lambda row: {_DISEASE_FREE: 0},
    ),
    "turned_risk_group": _turned(
        "clinrisk_stratified",
        "risk_group_is_score_of_three",
        "the risk group is not that of the score",
    ),
    "turned_nash": _turned(
        "NASH_yesno",
        "nash_flag_is_score_of_one",
        "the steatohepatitis flag is not that of the score",
    ),
    "turned_high_nash": _turned(
        "NASH_greater_4",
        "nash_4_flag_is_score_of_four",
        "the flag of high steatohepatitis is not that of the score",
    ),
    "turned_fibrosis": _turned(
        "fibrosis_greater_40_percent",
        "fibrosis_flag_is_40_percent",
        "the flag of fibrosis is not that of the share",
    ),
    "response_of_other_parts": RowConflict(
        rules=("response_is_its_parts",),
        meaning="the response is not the sum of necrosis, fibrosis and mucin",
        fits=_is_known(_RESPONSE),
        changes=_other_response,
    ),
}
"""Kind -> contradiction. A recurrence after death breaks two rules, since the liver
cannot be free of recurrence for less time than the whole body."""
