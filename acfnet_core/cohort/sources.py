"""Where a cohort's files lie, and how they are to be read.

A site's cohort and the coordinator's held-out one are described in the same words, and
read by the same code.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.canonical import canonical_json
from acfnet_core.cohort.data_settings import CohortFile, DataConfig
from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs
from acfnet_core.cohort.masks.nifti_mask import NiftiLabels
from acfnet_core.cohort.table.mapping import TableMapping
from acfnet_core.config import read_settings


@dataclass(frozen=True, kw_only=True)
class CohortSources:
    """Where a cohort's files lie, and how they are to be read.

    Attributes:
        clinical_table: A csv or xlsx file.
        images_folder: The DICOM files, in any arrangement, and NIfTI masks beside
            their series; None for a table alone.
        mapping: How the table differs from the contract in names and writing.
        nifti_labels: What the values in NIfTI masks mean.
        repairs: Which faults of a series are mended rather than refused.
        notes_folder: Where notes on headers lie while a command runs, see `spool`;
            None takes the system's folder for temporary files.
    """

    clinical_table: Path
    images_folder: Path | None = None
    mapping: TableMapping = field(default_factory=TableMapping)
    nifti_labels: NiftiLabels = field(default_factory=dict)
    repairs: Repairs = NO_REPAIRS
    notes_folder: Path | None = field(default=None, compare=False)

    def reading_sha256(self) -> str:
        """Return the hash of how the files are read; where they lie is not in it.

        It tells two readings apart, and alone leaves the site. Order does not matter.
        """
        content = {
            **self.mapping.content(),
            "nifti_labels": {
                str(value): sorted(names) for value, names in self.nifti_labels.items()
            },
            "repairs": sorted(name for name, on in vars(self.repairs).items() if on),
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


def sources_of(data: DataConfig, folder: Path) -> CohortSources:
    """Return the sources that a section [data] describes.

    Args:
        data: The section.
        folder: Where its relative paths begin.
    """
    return CohortSources(
        clinical_table=folder / data.clinical_table,
        images_folder=None if data.images is None else folder / data.images,
        mapping=TableMapping(column_names=data.columns, dialect=data.table),
        nifti_labels={
            int(value): (names,) if isinstance(names, str) else names
            for value, names in data.nifti_labels.items()
        },
        repairs=Repairs(**data.repairs.model_dump()),
    )


def read_cohort_file(path: Path) -> CohortSources:
    """Read a file that describes one cohort; its relative paths begin at its folder.

    Raises:
        ConfigError: The file is missing or has faults; all of them are listed.
    """
    return sources_of(read_settings(path, CohortFile).data, path.parent)
