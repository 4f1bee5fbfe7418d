"""What an export says of itself: `export.json`, and the words to those who get it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from acfnet_core.config import Section
from acfnet_core.errors import DataError

FORMAT_VERSION = 1
MANIFEST = "export.json"
TABLE = "clinical.csv"
IMAGES_FOLDER = "images"
READ_ME = "READ-ME.txt"

CAUTION = (
    "A pseudonymised copy is still personal data: whoever has the site's key, or "
    "knows enough of a patient, can name the patient.",
    "A CT shows the body. A head rebuilt from it has a face; a rare disease, an "
    "implant or an unusual course may name a patient without any label.",
    "Look through tables and images before you hand them out; agree in writing who "
    "may use them, and for what.",
    "The key, pseudonym.key in the site's folder, must not travel: with it, "
    "pseudonyms and days can be traced back.",
)
"""To be said wherever an export is shown."""

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExportedFile(Section):
    """One file of an export; its path is relative."""

    file: Annotated[str, Field(pattern=r"^[a-z0-9./-]+$")]
    size_bytes: int
    sha256: _Sha256


class ExportManifest(Section):
    """What an export holds and how it was made; no identifier, no day.

    Attributes:
        methods: DICOM's codes of what was done, with their meaning.
        columns: Of the table.
        nifti_labels: Value in NIfTI masks -> segments, as site.toml writes it.
        files: All but the manifest and the words to the reader.
    """

    format_version: int
    acfnet_version: str
    contract_name: str
    contract_version: int
    contract_sha256: _Sha256
    methods: tuple[str, ...]
    caution: tuple[str, ...]
    num_patients: int
    num_with_scans: int
    num_scans: int
    segmentations: dict[str, int]
    columns: tuple[str, ...]
    nifti_labels: dict[str, tuple[str, ...]]
    files: tuple[ExportedFile, ...]


def read_export_manifest(folder: Path) -> ExportManifest:
    """Read what an export says of itself.

    Raises:
        DataError: There is no such file, or it is none that was written.
    """
    path = folder / MANIFEST
    try:
        return ExportManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        # What pydantic says quotes the file.
        raise DataError(
            "data.path_not_found",
            f"{path}: cannot be read as the description of an export.",
            remedy="Give the folder that `acf-client data export` wrote.",
        ) from None


def read_me(manifest: ExportManifest) -> str:
    """Return the words to those who get an export."""
    caution = "\n".join(f"- {line}" for line in manifest.caution)
    methods = "\n".join(f"- {line}" for line in manifest.methods)
    labels = "\n".join(
        f"{value} = {', '.join(names)}"
        for value, names in manifest.nifti_labels.items()
    )
    masks = f"\nValues in the NIfTI masks:\n\n{labels}\n" if labels else ""
    return f"""\
De-identified copy, written by acfnet {manifest.acfnet_version} under the data contract
{manifest.contract_name}, version {manifest.contract_version}.

{caution}

What was done, in DICOM's words (PS3.15 annex E):

{methods}

Each patient has a pseudonym. All days of a patient were moved to the past by one number
of days, which is another for each patient and known to the site alone: intervals are
kept, times of day, seasons and weekdays are not. Ages above 89 are written as 90.

{TABLE}: a row for each patient, with the contract's columns and codes.
{IMAGES_FOLDER}: a folder for each patient who has scans.
{MANIFEST}: every file with its hash.
{masks}"""
