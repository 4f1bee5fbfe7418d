"""Flower's object store with contents in files, held against its own."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory, object_store_factory
from flwr.supercore.object_store.sql_object_store import SqlObjectStore

from acf_server.object_files import LARGE_BYTES, MARK, FileObjectStore

RUN = 7

# Flower's set-up of alembic, which it uses for its database.
pytestmark = pytest.mark.filterwarnings("ignore:No path_separator:DeprecationWarning")


def open_store(folder: Path) -> FileObjectStore:
    store = FileObjectStore(str(folder / "state.db"))
    store.initialize()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileObjectStore]:
    store = open_store(tmp_path)
    yield store
    close(store)


def close(store: FileObjectStore) -> None:
    if store._engine is not None:
        store._engine.dispose()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "objects").iterdir())


def large_array(first: float = 0.0) -> Array:
    """Return an array of two large pieces."""
    return Array(np.arange(1_600_000, dtype=np.float32) + np.float32(first))


def put_whole(store: SqlObjectStore, array: Array) -> dict[str, bytes]:
    """Announce an array and store it with its pieces; return their contents."""
    store.preregister(RUN, get_object_tree(array))
    contents = {name: piece.deflate() for name, piece in array.children.items()}
    contents[array.object_id] = array.deflate()
    for name, content in contents.items():
        store.put(name, content)
    return contents


def test_what_was_put_is_given_back(store: FileObjectStore, tmp_path: Path) -> None:
    contents = put_whole(store, large_array())
    assert {name: store.get(name) for name in contents} == contents
    large = [c for c in contents.values() if len(c) >= LARGE_BYTES]
    assert len(files(tmp_path)) == len(large) > 1


def test_the_database_stays_small(store: FileObjectStore, tmp_path: Path) -> None:
    def size_of_database() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("state.db*"))

    before = size_of_database()
    contents = put_whole(store, large_array())
    grown = size_of_database() - before
    assert grown < 0.1 * sum(map(len, contents.values()))


def test_a_file_is_private(store: FileObjectStore, tmp_path: Path) -> None:
    put_whole(store, large_array())
    modes = {path.stat().st_mode & 0o777 for path in files(tmp_path)}
    assert modes == {0o600}
    assert (tmp_path / "objects").stat().st_mode & 0o777 == 0o700


def test_an_object_that_is_to_come_is_empty_and_an_unknown_one_none(
    store: FileObjectStore,
) -> None:
    array = large_array()
    store.preregister(RUN, get_object_tree(array))
    assert store.get(array.object_id) == b""
    assert store.get("0" * 64) is None


def test_deleting_removes_the_files(store: FileObjectStore, tmp_path: Path) -> None:
    array = large_array()
    contents = put_whole(store, array)
    store.delete(array.object_id)
    assert files(tmp_path) == []
    assert {store.get(name) for name in contents} == {None}


def test_a_piece_that_another_array_has_too_is_kept(
    store: FileObjectStore, tmp_path: Path
) -> None:
    values = np.arange(1_600_000, dtype=np.float32)
    longer = Array(np.concatenate([values, values[:10]]))
    shared = set(longer.children) & set(Array(values).children)
    put_whole(store, Array(values))
    put_whole(store, longer)
    store.delete(Array(values).object_id)
    assert all(store.get(name) for name in longer.children)
    assert shared <= set(longer.children)
    store.delete(longer.object_id)
    assert files(tmp_path) == []


def test_the_objects_of_a_run_go_with_it(
    store: FileObjectStore, tmp_path: Path
) -> None:
    put_whole(store, large_array())
    put_whole(store, large_array(1.0))
    store.delete_objects_in_run(RUN)
    assert files(tmp_path) == []
    assert len(store) == 0


def test_clearing_removes_everything(store: FileObjectStore, tmp_path: Path) -> None:
    put_whole(store, large_array())
    store.clear()
    assert files(tmp_path) == []
    assert len(store) == 0


def test_a_second_push_of_the_same_object_leaves_one_file(
    store: FileObjectStore, tmp_path: Path
) -> None:
    contents = put_whole(store, large_array())
    before = files(tmp_path)
    for name, content in contents.items():
        store.put(name, content)
    assert files(tmp_path) == before
    assert {name: store.get(name) for name in contents} == contents


def test_an_object_that_nobody_announced_is_refused_and_leaves_no_file(
    store: FileObjectStore, tmp_path: Path
) -> None:
    piece = ArrayChunk(memoryview(bytes(LARGE_BYTES)))
    with pytest.raises(Exception, match="was not pre-registered"):
        store.put(piece.object_id, piece.deflate())
    assert files(tmp_path) == []


def test_content_that_is_not_the_objects_is_refused(
    store: FileObjectStore, tmp_path: Path
) -> None:
    array = large_array()
    store.preregister(RUN, get_object_tree(array))
    with pytest.raises(ValueError, match="does not match content hash"):
        store.put(array.object_id, bytes(LARGE_BYTES))
    assert files(tmp_path) == []


def test_content_cannot_pose_as_the_name_of_a_file(store: FileObjectStore) -> None:
    content = MARK + b"../state.db"
    with pytest.raises(Exception, match="Unexpected"):
        store.put(hashlib.sha256(content).hexdigest(), content)


def test_a_deletion_that_is_rolled_back_keeps_the_file(
    store: FileObjectStore, tmp_path: Path
) -> None:
    array = large_array()
    contents = put_whole(store, array)
    with store.session() as session:
        store.delete(array.object_id)
        session.rollback()
    assert {name: store.get(name) for name in contents} == contents


def test_a_restart_keeps_what_is_whole(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    contents = put_whole(first, large_array())
    close(first)
    (tmp_path / "objects" / ("f" * 32)).write_bytes(b"of no object")
    again = open_store(tmp_path)
    assert {name: again.get(name) for name in contents} == contents
    assert not (tmp_path / "objects" / ("f" * 32)).exists()
    close(again)


@pytest.mark.parametrize("harm", ["cut short", "gone"])
def test_a_file_that_a_power_cut_has_harmed_is_asked_for_again(
    tmp_path: Path, harm: str
) -> None:
    first, array = open_store(tmp_path), large_array()
    contents = put_whole(first, array)
    close(first)
    harmed = files(tmp_path)[0]
    content = harmed.read_bytes()
    if harm == "gone":
        harmed.unlink()
    else:
        harmed.write_bytes(content[:1000])
    again = open_store(tmp_path)
    name = hashlib.sha256(content).hexdigest()
    assert again.get(name) == b""
    assert again.preregister(RUN, get_object_tree(array)) == [name]
    again.put(name, contents[name])
    assert again.get(name) == content
    close(again)


def test_flower_makes_its_store_by_the_name_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(object_store_factory), "SqlObjectStore", FileObjectStore)
    made = ObjectStoreFactory(str(tmp_path / "state.db")).store()
    assert isinstance(made, FileObjectStore)
    close(made)
