"""The site.toml that a made-up hospital would write for its own data."""

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from acfnet_core.cohort.synthetic.nifti_files import NIFTI_LABELS
from acfnet_core.cohort.synthetic.sites import IMAGES_FOLDER, SyntheticSite
from acfnet_core.cohort.synthetic.table_forms import table_form

SETTINGS_NAME = "site.toml"
SITE_FOLDER = "site"
"""Where the settings expect the site's own folder: in the hospital's."""


def settings_of(site: SyntheticSite) -> str:
    """Return settings that read the hospital's data from its folder `site`."""
    form = table_form(site.table)
    above = PurePosixPath("..")
    mapping = form.mapping
    data: dict[str, Any] = {
        "clinical_table": str(above / form.file_name),
        "images": str(above / IMAGES_FOLDER),
        "columns": dict(mapping.column_names),
        "table": mapping.dialect.model_dump(mode="json", exclude_defaults=True),
    }
    if site.form.masks == "NIfTI":
        data["nifti_labels"] = {
            str(value): names[0] if len(names) == 1 else list(names)
            for value, names in NIFTI_LABELS.items()
        }
    lines = [
        f"# The settings of {site.name}, a made-up hospital. They belong into its",
        f"# folder {SITE_FOLDER!r}, which `acf-client init` makes.",
        "",
        "format_version = 1",
    ]
    _add_section(lines, "data", data)
    return "\n".join(lines) + "\n"


def _add_section(lines: list[str], name: str, content: Mapping[str, Any]) -> None:
    """Add a TOML section: its values first, since what follows belongs to its last."""
    values = {k: v for k, v in content.items() if not isinstance(v, Mapping)}
    if values:
        lines += ["", f"[{name}]"]
        lines += [f"{_key(key)} = {_quote(value)}" for key, value in values.items()]
    for key, value in content.items():
        if isinstance(value, Mapping):
            _add_section(lines, f"{name}.{_key(key)}", value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quote(key)


def _quote(value: Any) -> str:
    """Write strings, numbers and arrays, which are JSON's."""
    return json.dumps(value, ensure_ascii=False)
