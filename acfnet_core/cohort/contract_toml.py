"""A data contract as the TOML text that `load_contract` reads."""

import json
import re
from typing import Any

from acfnet_core.cohort.contract import DataContract


def contract_to_toml(contract: DataContract) -> str:
    """Write a contract, whole, so that reading it gives an equal one."""
    lines: list[str] = []
    _write_table("", contract.model_dump(mode="json"), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(path: str, table: dict[str, Any], lines: list[str]) -> None:
    """Write a table's own values first: what follows a heading belongs to it."""
    if path:
        lines += ["", f"[{path}]"]
    for key, value in table.items():
        is_table = isinstance(value, dict) or _is_array_of_tables(value)
        if value is not None and not is_table:
            lines.append(f"{_write_key(key)} = {_write_value(value)}")
    for key, value in table.items():
        name = f"{path}.{_write_key(key)}" if path else _write_key(key)
        if isinstance(value, dict):
            _write_table(name, value, lines)
        elif _is_array_of_tables(value):
            for one in value:
                lines += ["", f"[[{name}]]"]
                _write_table("", one, lines)


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _write_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _write_value(key)


def _write_value(value: Any) -> str:
    """Write a value: strings, numbers and arrays are the same in JSON."""
    return json.dumps(value, ensure_ascii=False)
