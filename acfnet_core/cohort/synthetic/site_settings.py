"""The site.toml that a made-up hospital would write for its own data."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.nifti_files import NIFTI_LABELS
from acfnet_core.cohort.synthetic.sites import IMAGES_FOLDER, SyntheticSite
from acfnet_core.cohort.synthetic.table_forms import table_form

SETTINGS_NAME = "site.toml"
SITE_FOLDER = "site"
"""Where the settings expect the site's own folder: in the hospital's."""

_ABOVE = PurePosixPath("..")


def settings_of(site: SyntheticSite, *, data_folder: PurePath = _ABOVE) -> str:
    """Return settings that read the hospital's data.

    Args:
        site: The hospital.
        data_folder: Its folder with table and images; as it is, seen from the folder
            `site` in it.
    """
    form = table_form(site.table)
    mapping = form.mapping
    data: dict[str, Any] = {
        "clinical_table": str(data_folder / form.file_name),
        "images": str(data_folder / IMAGES_FOLDER),
        "columns": dict(mapping.column_names),
        "table": mapping.dialect.model_dump(mode="json", exclude_defaults=True),
    }
    if site.form.masks == "NIfTI":
        data["nifti_labels"] = {
            str(value): names[0] if len(names) == 1 else list(names)
            for value, names in NIFTI_LABELS.items()
        }
    lines = [f"# The settings of {site.name}, a made-up hospital."]
    if data_folder == _ABOVE:
        lines.append(
            f"# They belong into the folder {SITE_FOLDER!r} in this one, which"
        )
        lines.append("# `acf-client init` makes.")
    lines += ["", "format_version = 1"]
    _add_section(lines, "data", data)
    return "\n".join(lines) + "\n"


def made_up_sources(site: SyntheticSite, data_folder: Path) -> CohortSources:
    """Return where the data lies, and how it is read, as the settings say."""
    form = table_form(site.table)
    return CohortSources(
        clinical_table=data_folder / form.file_name,
        images_folder=data_folder / IMAGES_FOLDER,
        mapping=form.mapping,
        nifti_labels=NIFTI_LABELS if site.form.masks == "NIfTI" else {},
    )


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
