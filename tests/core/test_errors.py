import copy
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from acfnet_core import errors
from acfnet_core.errors import (
    CATALOGUE,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    AcfnetError,
    ConfigError,
    DataError,
    IdentityError,
    MachineError,
    ProtocolError,
    format_error,
)

KINDS: dict[str, type[AcfnetError]] = {
    "config": ConfigError,
    "data": DataError,
    "identity": IdentityError,
    "protocol": ProtocolError,
    "machine": MachineError,
}


def _drawn_ranges() -> dict[str, list[range]]:
    """Read the exit statuses of each kind from the tree that opens the module."""
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^[├└]── (\w+) .* exit ([0-9, -]+)$", line):
            pairs = [part.split("-") for part in found[2].split(",")]
            drawn[found[1]] = [range(int(a), int(b) + 1) for a, b in pairs]
    return drawn


def test_the_tree_draws_every_kind_of_error() -> None:
    kinds = {kind.__name__ for kind in AcfnetError.__subclasses__()}
    assert set(_drawn_ranges()) == kinds == {kind.__name__ for kind in KINDS.values()}


@pytest.mark.parametrize("code", CATALOGUE)
def test_an_exit_status_is_in_the_range_that_the_tree_draws(code: str) -> None:
    kind = KINDS[code.partition(".")[0]].__name__
    status = CATALOGUE[code].exit_status
    assert any(status in drawn for drawn in _drawn_ranges()[kind])


def test_exit_statuses_are_unique() -> None:
    statuses = [entry.exit_status for entry in CATALOGUE.values()]
    assert len(set(statuses)) == len(statuses)


def test_exit_statuses_are_in_order() -> None:
    statuses = [entry.exit_status for entry in CATALOGUE.values()]
    assert statuses == sorted(statuses)


def test_exit_statuses_leave_those_of_the_shell_alone() -> None:
    statuses = {entry.exit_status for entry in CATALOGUE.values()}
    assert all(2 < status < 126 for status in statuses)
    assert not statuses & {0, EXIT_INTERNAL, EXIT_INTERRUPTED}


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_meaning_is_one_sentence(code: str) -> None:
    assert re.fullmatch(r"[A-Z][^.{}%]+\.", CATALOGUE[code].meaning)


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_code_has_a_group_and_a_name(code: str) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", code)


def test_a_code_that_is_not_in_the_catalogue_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        DataError("data.other", "m", remedy="r")


def _fail(code: str) -> None:
    raise DataError(code, "a.csv: no rows.", remedy="Export it.")


def test_an_error_comes_whole_from_a_worker_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(_fail, "data.table_empty").exception(timeout=60)
    assert isinstance(error, DataError)
    assert error.as_json() == {
        "code": "data.table_empty",
        "message": "a.csv: no rows.",
        "remedy": "Export it.",
    }
    assert error.exit_status == 21


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_copied_error_keeps_its_kind(kind: type[AcfnetError]) -> None:
    error = kind("data.table_empty", "message", remedy="remedy")
    copied = copy.copy(error)
    assert type(copied) is kind
    assert copied.as_json() == error.as_json()


def test_people_read_the_code_the_message_and_the_remedy() -> None:
    error = MachineError("machine.disk_full", "/data: full.", remedy="Free space.")
    assert format_error(error) == (
        "error (machine.disk_full): /data: full.\nwhat to do: Free space."
    )


def test_an_error_reads_as_its_message() -> None:
    assert str(ProtocolError("protocol.malformed", "It is bad.", remedy="r")) == (
        "It is bad."
    )
