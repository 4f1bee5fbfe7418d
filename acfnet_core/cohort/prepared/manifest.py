"""The manifest of a prepared store: what it holds, file by file, with its hash."""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.errors import DataError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ScanRecord(_Record):
    """One prepared scan.

    Attributes:
        file: Its place in the store.
        time_months: From the resection; before it negative.
        time_assumed: The resection's date was not known: the patient's last scan was
            put at 0, and the others keep their distance to it.
        channel_mask: Which channels the scan has, in the order of `CHANNELS`.
        repairs: Codes of what was mended in its series.
        sources: Keyed hashes of the UIDs of its series and of its segmentation, if that
            has one: whoever has the site's key can follow a scan back to its files.
    """

    file: Annotated[str, Field(pattern=r"^scans/[a-z2-7]+/[0-9a-f]+\.safetensors$")]
    sha256: _Sha256
    time_months: float
    time_assumed: bool
    channel_mask: tuple[bool, ...]
    repairs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class InputsRecord(_Record):
    """What a model may read of one patient; an outcome it cannot hold."""

    pseudonym: str
    clinical: tuple[float, ...]
    clinical_mask: tuple[bool, ...]
    scans: tuple[ScanRecord, ...]
    refused: tuple[str, ...] = ()
    """Code of each scan that passed by its headers and was refused when it was read."""


class PatientRecord(InputsRecord):
    """One prepared patient with an outcome, as the manifest has it."""

    time_months: float
    event: Annotated[int, Field(ge=0, le=1)]
    fong_score: float | None


class Manifest(_Record):
    """What a store holds, and under which contract it was made."""

    format_version: int
    contract_name: str
    contract_sha256: _Sha256
    reading_sha256: _Sha256 | None = None
    """Of how table and images were read; null in a store of an earlier version."""
    spec_sha256: _Sha256 | None = None
    """Of what decides a scan's voxels; null without images."""
    num_without_outcome: int
    """Rows of the table without time or event."""
    refused: dict[str, int]
    """Reason code -> number of studies or series that were not used."""
    patients: tuple[PatientRecord, ...]
    without_outcome: tuple[InputsRecord, ...] = ()
    """For prediction alone; a store of an earlier version counts them without more."""


def read_manifest(folder: Path) -> Manifest | None:
    """Read a store's manifest; None if nothing has been prepared there.

    Raises:
        DataError: The manifest cannot be read or is not of this format.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(path) from error
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        # The validation error quotes values of patients: it must not be chained.
        raise damaged(path) from None
    if manifest.format_version != FORMAT_VERSION:
        raise damaged(path)
    return manifest


def spec_of(imaging: ImagingExpectations) -> str:
    """Return the hash of everything that decides a prepared scan's voxels."""
    content = f"format {FORMAT_VERSION}; {imaging.model_dump_json()}"
    return hashlib.sha256(content.encode()).hexdigest()


def damaged(path: Path) -> DataError:
    """Return the error about a prepared file that is not what was written."""
    return DataError(
        "data.store_damaged",
        f"{path}: is missing, damaged or of another version than was prepared.",
        remedy="Run `acf-client data prepare` again; sound files are kept.",
    )
