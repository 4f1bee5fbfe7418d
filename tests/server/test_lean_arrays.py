"""Arrays with fewer copies, held against Flower's own functions."""

from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array
from flwr.app.message import array as flower_array
from flwr.app.message import arraychunk as flower_chunk
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    add_header_to_object_body,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given, settings
from hypothesis import strategies as st

from acf_server.lean_arrays import (
    read_array,
    read_chunk,
    use_lean_arrays,
    with_header,
)

FLOWERS_CHUNK = ArrayChunk.__dict__["inflate"]
FLOWERS_ARRAY = Array.__dict__["inflate"]


@pytest.fixture
def flowers_own() -> Iterator[None]:
    """Flower's functions, whatever another test has imported before."""
    before = (ArrayChunk.__dict__["inflate"], Array.__dict__["inflate"])
    _replace(FLOWERS_CHUNK, FLOWERS_ARRAY)
    yield
    _replace(*before)


def _replace(chunk: object, array: object) -> None:
    for kind, function in ((ArrayChunk, chunk), (Array, array)):
        setattr(kind, "inflate", function)  # noqa: B010


def pieces_of(array: Array) -> dict[str, bytes]:
    """Return an array's content and that of its pieces."""
    found: dict[str, InflatableObject] = {**dict(array.children), "": array}
    return {each.object_id: each.deflate() for each in found.values()}


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=50)
def test_the_content_of_a_piece_is_flowers(data: bytes) -> None:
    piece = ArrayChunk(memoryview(data))
    assert with_header(piece.data, piece) == add_header_to_object_body(
        object_body=piece.data, obj=piece
    )


@pytest.mark.parametrize("num_values", [0, 1, 700_000, 2_000_000])
def test_an_array_is_put_together_as_by_flower(num_values: int) -> None:
    values = np.arange(num_values, dtype=np.float32)
    contents = pieces_of(Array(values))
    name = Array(values).object_id
    children = {
        key: read_chunk(ArrayChunk, content)
        for key, content in contents.items()
        if key != name
    }
    assert read_array(Array, contents[name], children) == Array(values)


@pytest.mark.usefixtures("flowers_own")
def test_flower_reads_what_is_cut_here() -> None:
    values = np.linspace(0, 1, 1_500_000, dtype=np.float32)
    array = Array(values)
    contents = {
        key: with_header(piece.data, piece)
        for key, piece in array.children.items()
        if isinstance(piece, ArrayChunk)
    }
    contents[array.object_id] = array.deflate()
    read = inflate_object_from_contents(array.object_id, contents)
    assert isinstance(read, Array)
    assert np.array_equal(read.numpy(), values)


def test_equal_pieces_are_put_where_they_belong() -> None:
    values = np.zeros(3_000_000, dtype=np.float32)
    array = Array(values)
    contents = pieces_of(array)
    assert len(contents) < 5
    children = {key: read_chunk(ArrayChunk, contents[key]) for key in array.children}
    assert read_array(Array, contents[array.object_id], children) == array


def test_a_missing_piece_is_refused() -> None:
    array = Array(np.zeros(8, dtype=np.float32))
    with pytest.raises(ValueError, match="0 pieces of an array of 1"):
        read_array(Array, array.deflate(), {})


def test_a_piece_of_another_kind_is_refused() -> None:
    array = Array(np.zeros(8, dtype=np.float32))
    with pytest.raises(ValueError, match="'Array' where an 'ArrayChunk' should be"):
        read_chunk(ArrayChunk, array.deflate())


def test_a_piece_has_no_pieces() -> None:
    piece = ArrayChunk(memoryview(b"x"))
    with pytest.raises(ValueError, match="do not have children"):
        read_chunk(ArrayChunk, piece.deflate(), {"a": piece})


def test_flower_uses_the_functions_by_the_names_that_are_replaced() -> None:
    use_lean_arrays()
    assert vars(flower_array)["add_header_to_object_body"] is with_header
    assert vars(flower_chunk)["add_header_to_object_body"] is with_header
    values = np.arange(5, dtype=np.float32)
    array = Array(values)
    read = inflate_object_from_contents(array.object_id, pieces_of(array))
    assert isinstance(read, Array)
    assert np.array_equal(read.numpy(), values)
