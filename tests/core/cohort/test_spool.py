import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.guarded.frames import ForeignObjectError, pack_body
from acfnet_core.cohort.spool import Spool, SpooledList
from acfnet_core.errors import MachineError


def new_list(folder: Path | None = None) -> SpooledList[object]:
    return Spool(folder).new_list()


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.text(), st.lists(st.characters(exclude_categories=[])))),
    st.characters(exclude_categories=[]),
)
def test_items_are_found_as_in_a_dictionary(
    items: list[tuple[str, list[str]]], sought: str
) -> None:
    spooled = new_list()
    by_key: dict[str, list[str]] = {}
    for item, keys in items:
        spooled.append(item, keys=keys)
        for key in dict.fromkeys(keys):
            by_key.setdefault(key, []).append(item)
    assert list(spooled) == [item for item, _ in items]
    assert list(spooled.keys()) == sorted(by_key)
    for key in (*by_key, sought):
        assert list(spooled.find(key)) == by_key.get(key, [])
        assert spooled.has(key) is (key in by_key)


def test_places_from_the_end_and_parts_are_those_of_a_tuple() -> None:
    spooled = new_list()
    for number in range(5):
        spooled.append(number)
    assert (spooled[-1], spooled[1:3], len(spooled)) == (4, (1, 2), 5)
    with pytest.raises(IndexError):
        spooled[5]


def test_it_equals_a_sequence_of_equal_items() -> None:
    spooled = new_list()
    assert spooled == ()
    spooled.append("a")
    assert spooled == ("a",)
    assert spooled != ("b",)


def test_two_lists_of_a_spool_are_apart() -> None:
    spool = Spool()
    one: SpooledList[int] = spool.new_list()
    two: SpooledList[int] = spool.new_list()
    one.append(1, keys=["a"])
    two.append(2, keys=["b"])
    assert (list(one), list(two)) == ([1], [2])
    assert not one.has("b")


def is_held_below(folder: Path) -> bool:
    """Tell whether this process has a file of a folder open."""
    held = Path("/proc/self/fd").iterdir()
    return any(str(folder) in str(one.readlink()) for one in held if one.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux")
def test_its_file_has_no_name_and_goes_with_it(tmp_path: Path) -> None:
    spooled = new_list(tmp_path)
    for number in range(100):
        spooled.append(bytes(100_000) + bytes([number]))
    assert list(tmp_path.iterdir()) == []
    assert is_held_below(tmp_path)
    assert spooled[99] == bytes(100_000) + bytes([99])
    del spooled
    assert not is_held_below(tmp_path)


def test_nothing_is_opened_before_there_is_an_item(tmp_path: Path) -> None:
    spooled = new_list(tmp_path / "not-there")
    assert (len(spooled), list(spooled.keys())) == (0, [])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        new_list(tmp_path / "not-there").append(1)
    assert caught.value.code == "machine.folder_unwritable"
    assert str(tmp_path) in caught.value.message


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spooled: SpooledList[bytes] = spool.new_list()
    spooled.append(b"")
    spool.execute("PRAGMA max_page_count = 100")
    with pytest.raises(MachineError) as caught:
        spooled.append(bytes(2**20))
    assert caught.value.code == "machine.disk_full"
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_only_allowed_classes_come_back() -> None:
    spool = Spool()
    spooled: SpooledList[object] = spool.new_list()
    spooled.append(1)
    spool.execute("UPDATE items_1 SET body = ?", (pack_body(os.system),))
    with pytest.raises(ForeignObjectError):
        spooled[0]
