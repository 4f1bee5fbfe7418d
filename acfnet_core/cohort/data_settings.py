"""What is said of a cohort's files: the section [data] of a file of settings.

A site says it in site.toml, the coordinator of its held-out cohort in a file with this
section alone. It stands apart from `sources.py` so that reading settings loads no
library of images.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from acfnet_core.cohort.table.mapping import TableDialect
from acfnet_core.config import Section
from acfnet_core.errors import DataError

_MaskValue = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}$")]
_SegmentName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Heading = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RepairsConfig(Section):
    """Which faults of a CT series are mended rather than refused; [data.repairs]."""

    gantry_tilt: bool = False
    """Slices that are evenly shifted sideways are read where they lie."""
    missing_slices: bool = False
    """A lost slice between two that are there is interpolated."""
    empty_uids: bool = False
    """Files that lack UIDs get made-up ones."""
    patient_from_folder: bool = False
    """Files without a patient identifier belong to the patient after whom the topmost
    folder below the images is named."""


class DataConfig(Section):
    """Where a cohort's files lie, and how they are read; section [data]."""

    # TOML has no paths, so a string is taken for these two.
    clinical_table: Annotated[Path, Field(strict=False)]
    """CSV or xlsx, one row per patient."""
    images: Annotated[Path | None, Field(strict=False)] = None
    """The folder of DICOM files, and of NIfTI masks beside their series; absent where
    there are no images."""
    columns: dict[_Heading, _Heading] = Field(default_factory=dict)
    """The table's own heading -> the contract's name, where the two differ."""
    nifti_labels: dict[_MaskValue, _SegmentName | tuple[_SegmentName, ...]] = Field(
        default_factory=dict
    )
    """Value in NIfTI masks -> the segment it stands for, or several."""
    table: TableDialect = TableDialect()
    """How the table's values are written."""
    repairs: RepairsConfig = RepairsConfig()

    @model_validator(mode="after")
    def _names_are_given_once(self) -> "DataConfig":
        names = sorted(self.columns.values())
        twice = {name for name, after in pairwise(names) if name == after}
        if twice:
            raise ValueError(f"columns: given to two headings: {sorted(twice)}")
        return self


class CohortFile(Section):
    """A file that describes one cohort and nothing else."""

    format_version: Literal[1] = 1
    data: DataConfig


def refuse_missing_files(clinical_table: Path, images: Path | None) -> None:
    """Refuse a table or a folder of images that is not there.

    Raises:
        DataError: `data.path_not_found`, with both if both are missing.
    """
    faults = []
    if not clinical_table.is_file():
        faults.append(f"clinical table {clinical_table}: there is no such file.")
    if images is not None and not images.is_dir():
        faults.append(f"images {images}: there is no such folder.")
    if faults:
        raise DataError(
            "data.path_not_found",
            "\n".join(faults),
            remedy="Correct the path and repeat the command.",
        )
