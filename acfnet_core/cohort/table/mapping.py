"""How a site's table differs from the contract, in names and in writing."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TableMapping:
    """What a site says of its own table; section [data] of site.toml.

    Attributes:
        column_names: The site's heading -> the contract's name.
    """

    column_names: Mapping[str, str] = field(default_factory=dict)


AS_AGREED = TableMapping()
"""The mapping of a table that is as the contract has it."""
