"""Stores made of parts of other stores: for pseudo-sites, and for all of them as one.

The records are taken over as they stand. Scans are not copied: a link in the new store
leads to the folder of the patient's scans in the old one, which must stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    PatientRecord,
)
from acfnet_core.cohort.prepared.scan_job import SCANS_FOLDER
from acfnet_core.errors import DataError
from acfnet_core.files import (
    PRIVATE_MODE,
    describe_os_error,
    make_folder,
    write_atomically,
)


@dataclass(frozen=True)
class StorePart:
    """Some patients of a store.

    Attributes:
        folder: The store.
        patients: Records of its manifest.
        reading_sha256: Of the manifest.
    """

    folder: Path
    patients: tuple[PatientRecord, ...]
    reading_sha256: str | None


def write_store(
    folder: Path, parts: Sequence[StorePart], *, contract: DataContract
) -> Path:
    """Write a store that holds the patients of the parts, in their order.

    Args:
        folder: A new folder.
        parts: Of stores that were prepared under `contract`.
        contract: The contract.

    Raises:
        DataError: A patient is in two parts (`data.table_invalid`).
        MachineError: The store cannot be written.
    """
    patients = tuple(patient for part in parts for patient in part.patients)
    if len({patient.pseudonym for patient in patients}) < len(patients):
        raise DataError(
            "data.table_invalid",
            "A patient is in two of the cohorts: it would be trained on and judged by.",
            remedy="Give each prepared cohort once, and cohorts without patients in "
            "common.",
        )
    readings = {part.reading_sha256 for part in parts}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        contract_name=contract.name,
        contract_sha256=contract.sha256(),
        # Parts that were read in different ways have none in common.
        reading_sha256=readings.pop() if len(readings) == 1 else None,
        num_without_outcome=0,
        refused={},
        patients=patients,
    )
    make_folder(folder, private=True)
    make_folder(folder / SCANS_FOLDER, private=True)
    for part in parts:
        _link_scans(folder, part)
    content = manifest.model_dump_json(indent=1).encode()
    write_atomically(folder / MANIFEST, content, mode=PRIVATE_MODE)
    return folder


def _link_scans(folder: Path, part: StorePart) -> None:
    """Link the patients' folders of scans."""
    of_patients = {
        PurePosixPath(scan.file).parent
        for patient in part.patients
        for scan in patient.scans
    }
    for scans in sorted(of_patients):
        link = folder / scans
        try:
            link.symlink_to((part.folder / scans).resolve(), target_is_directory=True)
        except OSError as error:
            raise describe_os_error(error, link) from error
