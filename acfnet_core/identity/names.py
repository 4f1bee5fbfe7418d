"""The names that sites and consortia may have, and the form of an address.

A name becomes part of a URN, of a file's name and of an HTML page, so it is kept to
characters that are harmless in all three.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

NAME_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
NAME_MAX_CHARACTERS = 50  # X.520 allows a certificate's common name 64.
NAME_RULE = (
    f"1 to {NAME_MAX_CHARACTERS} lower-case letters, digits and single hyphens, "
    "beginning with a letter"
)

_ADDRESS = re.compile(
    r"^(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:]{2,45}\])"
    r":(?P<port>[0-9]{1,5})$"
)

Name = Annotated[
    str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_MAX_CHARACTERS)
]
"""A site's or consortium's name, checked wherever it enters."""


def check_name(name: str) -> str:
    """Return `name` if a site or a consortium may have it.

    Raises:
        ValueError: The name breaks the rule.
    """
    if len(name) > NAME_MAX_CHARACTERS or not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"is not a name; expected {NAME_RULE}")
    return name


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: The address does not have this form.

    Example:
        >>> split_address("fl.example.org:8443")
        ('fl.example.org', 8443)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError("is not an address; expected host:port, port 1 to 65535")
    return match["host"].strip("[]"), int(match["port"])


def _check_address(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[
    str, StringConstraints(max_length=300), AfterValidator(_check_address)
]
"""The coordinator's public address, `host:port`."""
