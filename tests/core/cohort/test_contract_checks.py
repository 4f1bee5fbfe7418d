from collections.abc import Callable
from pathlib import Path

import pytest

from acfnet_core.cohort.contract import DataContract, load_contract, shipped_contract
from acfnet_core.cohort.contract_checks import columns_of
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.errors import ConfigError

CRLM = shipped_contract("crlm")
PLAIN = CRLM.model_copy(update={"checks": ()})
Load = Callable[[str], DataContract]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_with(rules: str) -> DataContract:
        path = tmp_path / "contract.toml"
        plain = contract_to_toml(PLAIN).replace("checks = []\n", "")
        path.write_text(plain + rules, encoding="utf-8")
        return load_contract(path)

    return load_with


def _rule(**values: str) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    return f'\n[[checks]]\nname = "one"\nmeaning = "m"\n{lines}'


def test_a_rule_is_a_warning_unless_it_says_fault(load: Load) -> None:
    rule = {"kind": '"implies"', "premise": '"vital_status"'}
    text = _rule(**rule, conclusion='"vital_status_DFS"')
    assert load(text).checks[0].severity == "warning"
    assert load(text + 'severity = "fault"\n').checks[0].severity == "fault"


def test_a_rule_is_part_of_the_hash(load: Load) -> None:
    text = _rule(kind='"at_least"', flag='"NASH_yesno"', score='"NASH_score"')
    one, other = load(text + "threshold = 1\n"), load(text + "threshold = 2\n")
    assert len({one.sha256(), other.sha256(), PLAIN.sha256()}) == 3


def test_the_columns_of_a_rule_are_named_once() -> None:
    (check,) = (c for c in CRLM.checks if c.name == "event_is_recurrence_or_death")
    assert columns_of(check) == (
        "vital_status_DFS",
        "progression_or_recurrence",
        "vital_status",
    )


def test_columns_of_rules_need_not_be_in_the_table() -> None:
    assert "necrosis_percent" not in CRLM.required_columns


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (
            {"kind": '"not_after"', "earlier": '"height"', "later": '"age"'},
            "no such column in columns: height",
        ),
        (
            {"kind": '"implies"', "premise": '"age"', "conclusion": '"sex"'},
            "age must be a binary",
        ),
        (
            {
                "kind": '"not_after"',
                "earlier": '"age"',
                "later": '"date_of_liver_resection"',
            },
            "compares a number with a date",
        ),
        (
            {"kind": '"sum"', "total": '"age"', "parts": '["age"]'},
            "at least 2 items",
        ),
        ({"kind": '"never"'}, "kind"),
        (
            {
                "kind": '"at_least"',
                "flag": '"sex"',
                "score": '"age"',
                "threshold": "nan",
            },
            "threshold",
        ),
    ],
)
def test_a_rule_that_cannot_be_judged_is_refused(
    load: Load, rule: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(_rule(**rule))
    assert caught.value.code == "config.contract_invalid"


def test_two_rules_of_one_name_are_refused(load: Load) -> None:
    rule = _rule(
        kind='"positive_when"',
        flag='"vital_status_DFS"',
        number='"months_to_DFS_progression"',
    )
    with pytest.raises(ConfigError, match="two rules are called one"):
        load(rule + rule)
