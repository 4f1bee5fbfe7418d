"""A manifest while its patients are prepared: what is done lies on the disk.

The manifest that is written has the very bytes that `Manifest` would give; the records
of all patients are never in memory together.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.cohort.prepared.manifest import (
    InputsRecord,
    Manifest,
    PatientRecord,
    ScanRecord,
)
from acfnet_core.cohort.spool import Spool, SpooledList
from acfnet_core.files import PRIVATE_MODE, replacing

_INDENT = "  "
"""Of a record: it stands in a list of the manifest."""


@dataclass(kw_only=True)
class ManifestCounts:
    """What the records hold, counted.

    Attributes:
        num_with_scans: Patients with an outcome who have a scan.
        num_scans: Theirs.
        num_scans_without_outcome: Scans of the others.
        num_scans_assumed: Of all, as `repaired`.
    """

    num_patients: int = 0
    num_events: int = 0
    num_with_scans: int = 0
    num_scans: int = 0
    num_without_outcome: int = 0
    num_scans_without_outcome: int = 0
    num_scans_assumed: int = 0
    repaired: Counter[str] = field(default_factory=Counter)


class ManifestDraft:
    """Takes one patient's record after the other.

    Args:
        spool: Where they are put.
    """

    def __init__(self, spool: Spool) -> None:
        self.counts = ManifestCounts()
        self._patients: SpooledList[str] = spool.new_list()
        self._without_outcome: SpooledList[str] = spool.new_list()
        self._files: SpooledList[None] = spool.new_list()

    def add_patient(self, record: PatientRecord) -> None:
        """Take a patient with an outcome."""
        self._patients.append(record.model_dump_json(indent=1))
        self.counts.num_patients += 1
        self.counts.num_events += record.event
        self.counts.num_with_scans += bool(record.scans)
        self.counts.num_scans += len(record.scans)
        self._add_scans(record.scans)

    def add_without_outcome(self, record: InputsRecord) -> None:
        """Take a patient without an outcome."""
        self._without_outcome.append(record.model_dump_json(indent=1))
        self.counts.num_without_outcome += 1
        self.counts.num_scans_without_outcome += len(record.scans)
        self._add_scans(record.scans)

    def has_file(self, file: str) -> bool:
        """Tell whether a patient has a scan in this place of the store."""
        return self._files.has(file)

    def write(self, path: Path, manifest: Manifest) -> None:
        """Write the manifest, wholly or not at all.

        Args:
            path: The file.
            manifest: All of it but for the patients, of whom it has none.

        Raises:
            MachineError: It cannot be written.
        """
        with (
            replacing(path, mode=PRIVATE_MODE) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            file.writelines(self._parts(manifest))

    def _add_scans(self, scans: tuple[ScanRecord, ...]) -> None:
        for scan in scans:
            self._files.append(None, keys=[scan.file])
            self.counts.num_scans_assumed += scan.time_assumed
            self.counts.repaired.update(scan.repairs)

    def _parts(self, manifest: Manifest) -> Iterator[str]:
        rest = manifest.model_dump_json(indent=1)
        for name, records in (
            ("patients", self._patients),
            ("without_outcome", self._without_outcome),
        ):
            # A quote within a text is written otherwise: this is the list itself.
            before, empty, rest = rest.partition(f'"{name}": []')
            yield before
            yield empty.removesuffix("]")
            for place, record in enumerate(records):
                yield ",\n" if place else "\n"
                yield textwrap.indent(record, _INDENT)
            yield "\n ]" if records else "]"
        yield rest
