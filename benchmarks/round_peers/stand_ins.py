"""Putting a stand-in in the place of a function of ours."""

from collections.abc import Callable
from types import ModuleType
from typing import Any


def put_in_place(module: ModuleType, name: str, stand_in: Callable[..., Any]) -> None:
    """Have a module use a stand-in from now on.

    Raises:
        LookupError: The module has no such name: what is measured would be another.
    """
    if name not in vars(module):
        raise LookupError(f"{module.__name__} has no {name}")
    vars(module)[name] = stand_in
