"""Unique identifiers that follow from what they name."""

import hashlib


def make_uid(*parts: object) -> str:
    """Return the unique identifier of what the parts name, below root 2.25.

    Source: DICOM PS3.5 section B.2; the 128 bits are a hash in place of a UUID.
    """
    text = "/".join(map(str, parts))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])}"
