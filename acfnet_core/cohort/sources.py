"""Where a site's data lies, and what the site has said about it."""

from dataclasses import dataclass, field
from pathlib import Path

from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs
from acfnet_core.cohort.masks.nifti_mask import NiftiLabels
from acfnet_core.cohort.table.mapping import TableMapping


@dataclass(frozen=True, kw_only=True)
class CohortSources:
    """Where a site's data lies, and what the site has said about it.

    Attributes:
        clinical_table: A csv or xlsx file.
        images_folder: The DICOM files, in any arrangement, and NIfTI masks beside
            their series; None for a table alone.
        mapping: How the site's table differs from the contract in names and writing.
        nifti_labels: What the values in NIfTI masks mean.
        repairs: Which faults of a series are mended rather than refused.
    """

    clinical_table: Path
    images_folder: Path | None = None
    mapping: TableMapping = field(default_factory=TableMapping)
    nifti_labels: NiftiLabels = field(default_factory=dict)
    repairs: Repairs = NO_REPAIRS
