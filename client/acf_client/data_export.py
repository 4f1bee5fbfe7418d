"""`data export`: a de-identified copy of the site's data, noted before it is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acf_client.data import data_sources, read_contract
from acf_client.site import Site
from acfnet_core.cohort.deidentified.export import (
    ExportEvent,
    ExportFinished,
    ExportReady,
    export_cohort,
)
from acfnet_core.errors import ConfigError


def export_site(
    site: Site, folder: Path, *, patients: Path | None = None
) -> Iterator[ExportEvent]:
    """Write a copy of the site's data and note it in the audit log.

    The note is made when all is written and before the copy is in its place: there is
    none that was not noted.

    Args:
        site: The site; its key stays where it is.
        folder: A new or empty folder, apart from the site's folder and its images.
        patients: A file with the identifiers to copy, one on each line; None copies
            all.

    Raises:
        AcfnetError: The site is not enrolled, its data cannot be used, or the folder
            cannot be written.
    """
    contract = read_contract(site)
    only_patients = None if patients is None else _read_identifiers(patients)
    for event in export_cohort(
        contract,
        data_sources(site),
        folder,
        site_key=site.load_pseudonym_key(),
        only_patients=only_patients,
        apart_from=[site.folder],
    ):
        if isinstance(event, ExportReady):
            site.audit.append(
                "data_exported",
                manifest_sha256=event.manifest_sha256,
                contract_sha256=event.manifest.contract_sha256,
                num_patients=event.manifest.num_patients,
                num_scans=event.manifest.num_scans,
                num_files=len(event.manifest.files),
            )
        yield event


def export_as_json(finished: ExportFinished) -> dict[str, Any]:
    """Return what a program needs to know of an export."""
    ready = finished.ready
    manifest = ready.manifest
    return {
        "folder": str(finished.folder),
        "manifest_sha256": ready.manifest_sha256,
        "num_patients": manifest.num_patients,
        "num_with_scans": manifest.num_with_scans,
        "num_scans": manifest.num_scans,
        "num_files": len(manifest.files),
        "segmentations": manifest.segmentations,
        "num_ages_capped": ready.num_ages_capped,
        "left_out": ready.left_out,
    }


def _read_identifiers(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(
            "config.not_found",
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Give a text file with an identifier on each line.",
        ) from error
    except UnicodeDecodeError:
        # The error holds the file's content: it must not be chained.
        raise ConfigError(
            "config.invalid",
            f"{path}: is not UTF-8 text.",
            remedy="Give a text file with an identifier on each line.",
        ) from None
    return frozenset(line.strip() for line in lines if line.strip())
