"""One byte form of a JSON value, for everything that is hashed or signed.

Two machines that hold the same values must arrive at the same bytes, so keys are
sorted, there is no white space, only ASCII is written, and NaN is refused.
"""

import json
from collections.abc import Mapping


def canonical_json(value: Mapping[str, object]) -> bytes:
    """Write `value` in the one form that is hashed or signed.

    Raises:
        ValueError: A number is NaN or infinite, which JSON has no form for.
        TypeError: A value is of a type that JSON does not know.

    Example:
        >>> canonical_json({"site": "hospital-a", "round": 3})
        b'{"round":3,"site":"hospital-a"}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")
