"""Flower's arrays with fewer copies on their way through a process.

Flower copies a vector three times while it is put together from its pieces, and twice
while it is cut into them. For the vectors that we send as one array each, that decides
how much memory a process needs. The functions that are replaced do what Flower's do,
with one copy; tests/server/test_lean_arrays.py holds them against Flower's.

The ServerApp uses them; sites have Flower's own.
"""

import json
from collections.abc import Mapping
from typing import Any

from flwr.app import Array
from flwr.app.message import array as flower_array
from flwr.app.message import arraychunk as flower_chunk
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
    get_object_type_from_object_content,
)


def use_lean_arrays() -> None:
    """Replace Flower's functions in this process; to do so again changes nothing."""
    vars(flower_array).update(add_header_to_object_body=with_header)
    vars(flower_chunk).update(add_header_to_object_body=with_header)
    for kind, read in ((ArrayChunk, read_chunk), (Array, read_array)):
        setattr(kind, "inflate", classmethod(read))  # noqa: B010


def with_header(object_body: bytes | memoryview, obj: InflatableObject) -> bytes:
    """Return an object's content: its head, then its body."""
    children = ",".join(obj.children or {})
    head = (type(obj).__qualname__, children, str(len(object_body)))
    text = HEAD_VALUE_DIVIDER.join(head).encode()
    return b"".join((text, HEAD_BODY_DIVIDER, object_body))


def read_chunk(
    cls: type[ArrayChunk],
    object_content: bytes,
    children: Mapping[str, InflatableObject] | None = None,
) -> ArrayChunk:
    """Read a piece of an array; it shares the content's memory.

    Raises:
        ValueError: The content is of another kind, or has children.
    """
    if children:
        raise ValueError("`ArrayChunk` objects do not have children.")
    found = get_object_type_from_object_content(object_content)
    if found != cls.__qualname__:
        raise ValueError(f"{found!r} where an {cls.__qualname__!r} should be")
    start = object_content.find(HEAD_BODY_DIVIDER) + len(HEAD_BODY_DIVIDER)
    return cls(data=memoryview(object_content)[start:])


def read_array(
    cls: type[Array],
    object_content: bytes,
    children: Mapping[str, InflatableObject] | None = None,
) -> Array:
    """Put an array together from its pieces.

    Raises:
        ValueError: The content is of another kind, or the pieces are not its own.
    """
    body = json.loads(get_object_body(object_content, cls).decode())
    _, names, _ = get_object_head_values_from_object_content(object_content)
    pieces = [names[number] for number in body["arraychunk_ids"]]
    given: Mapping[str, Any] = children or {}
    if set(pieces) != set(given):
        raise ValueError(f"{len(given)} pieces of an array of {len(set(pieces))}")
    return cls(
        dtype=body["dtype"],
        shape=tuple(body["shape"]),
        stype=body["stype"],
        data=b"".join(given[piece].data for piece in pieces),
    )
