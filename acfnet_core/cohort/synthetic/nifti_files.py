"""Writing a made-up scan's masks as one NIfTI file beside its CT slices."""

import gzip
import tempfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import SimpleITK

from acfnet_core.cohort.synthetic.image import Masks, SyntheticScan

NIFTI_NAME = "segmentation.nii.gz"

NIFTI_LABELS = MappingProxyType(
    {
        1: ("Liver",),
        2: ("Liver", "Hepatic"),
        3: ("Liver", "Portal"),
        4: ("Liver", "Tumor"),
        5: ("Liver", "Hepatic", "Tumor"),
        6: ("Liver", "Portal", "Tumor"),
    }
)
"""Value in a mask -> the segments it stands for. Everything lies in the liver, and a
voxel that belongs to both veins counts as portal."""

_TUMOUR_OFFSET = 3


def write_nifti(content: SyntheticScan, series_folder: Path) -> None:
    """Write the masks as labels on the CT's voxels.

    Raises:
        OSError: The folder cannot be written.
    """
    image = SimpleITK.GetImageFromArray(_to_labels(content.masks))
    image.SetSpacing(content.spacing_mm[::-1])
    image.SetOrigin(content.first_voxel_mm)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "mask.nii"
        SimpleITK.WriteImage(image, str(plain), imageIO="NiftiImageIO")
        packed = gzip.compress(plain.read_bytes(), mtime=0)
    (series_folder / NIFTI_NAME).write_bytes(packed)


def _to_labels(masks: Masks) -> np.ndarray:
    labels = masks["Liver"].astype(np.uint8)
    labels[masks["Hepatic"]] = 2
    labels[masks["Portal"]] = 3
    is_tumour = np.any([m for n, m in masks.items() if n.startswith("Tumor_")], axis=0)
    # Within the liver every voxel has a value from 1 to 3, so that 3 more tells both.
    labels[is_tumour & (labels > 0)] += _TUMOUR_OFFSET
    return labels
