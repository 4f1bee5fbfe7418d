"""A model's parameters as one flat vector, and back.

Sites and server exchange one float32 vector, not one array per tensor: it travels in
one piece and has one hash. The layout (names in sorted order, with shapes) is known to
both sides, because both build the model from the same settings; only the layout's hash
travels.

Axes: `value` runs over all parameters of all arrays.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

NamedArrays = Mapping[str, NDArray[np.float32]]
FlatParameters = Float32[np.ndarray, " value"]


@dataclass(frozen=True)
class ParameterLayout:
    """Names and shapes of a model's arrays, in the order of the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def num_values(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in self.shapes)

    def sha256(self) -> str:
        """Hash over names and shapes."""
        text = json.dumps([self.names, self.shapes], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def layout_of(arrays: NamedArrays) -> ParameterLayout:
    """Return the layout of named arrays: sorted by name.

    Raises:
        ValueError: An array is not float32.
    """
    names = tuple(sorted(arrays))
    for name in names:
        if arrays[name].dtype != np.float32:
            raise ValueError(f"{name} is {arrays[name].dtype}; expected float32")
    return ParameterLayout(names, tuple(arrays[name].shape for name in names))


def flatten(arrays: NamedArrays) -> FlatParameters:
    """Join named arrays into one vector, in the layout's order."""
    layout = layout_of(arrays)
    if not layout.names:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([arrays[name].reshape(-1) for name in layout.names])


def unflatten(
    flat: FlatParameters, layout: ParameterLayout
) -> dict[str, NDArray[np.float32]]:
    """Cut a flat vector back into named arrays.

    Raises:
        ValueError: The vector's length is not the layout's.
    """
    return {name: part.copy() for name, part in parts_of(flat, layout).items()}


def parts_of(
    flat: FlatParameters, layout: ParameterLayout
) -> dict[str, NDArray[np.float32]]:
    """Name the parts of a flat vector, which they share their memory with.

    Raises:
        ValueError: The vector's length is not the layout's.
    """
    if flat.size != layout.num_values:
        raise ValueError(f"{flat.size} values; the layout has {layout.num_values}")
    arrays, start = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        stop = start + prod(shape)
        arrays[name] = flat[start:stop].reshape(shape)
        start = stop
    return arrays


def sha256_of(flat: FlatParameters) -> str:
    """Hash of the values as little-endian float32 bytes."""
    return hashlib.sha256(_values_of(flat)).hexdigest()


def sha256_of_arrays(arrays: NamedArrays) -> str:
    """Hash of named arrays as of the vector that `flatten` makes of them.

    Raises:
        ValueError: An array is not float32.
    """
    found = hashlib.sha256()
    for name in layout_of(arrays).names:
        found.update(_values_of(arrays[name]))
    return found.hexdigest()


def _values_of(array: NDArray[np.float32]) -> memoryview:
    """Return values as they are hashed, without a copy if they lie so already."""
    return np.ascontiguousarray(array, dtype="<f4").data
