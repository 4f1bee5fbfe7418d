"""Slow, obvious encodings of an update: one value at a time, by Python's `struct`."""

import struct
from collections.abc import Sequence
from math import floor, log2


def slow_float16(values: Sequence[float]) -> bytes:
    """Return an exponent, and each value over 2 to that power in 16 bits."""
    largest = max(map(abs, values))
    exponent = 0 if largest == 0 else floor(log2(largest)) - 14
    scale = 2.0**exponent
    halves = [struct.pack("<e", value / scale) for value in values]
    return struct.pack("<i", exponent) + b"".join(halves)


def slow_top_k(values: Sequence[float], num_kept: int) -> bytes:
    """Return the places of the largest magnitudes, and their values."""
    by_magnitude = sorted(range(len(values)), key=lambda at: (-abs(values[at]), at))
    places = sorted(by_magnitude[:num_kept])
    sent = [values[at] for at in places]
    return struct.pack(f"<{num_kept}I", *places) + struct.pack(f"<{num_kept}f", *sent)
