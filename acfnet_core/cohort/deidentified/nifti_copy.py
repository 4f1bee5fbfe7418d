"""A NIfTI mask written anew on the voxels of its CT.

Nothing of the source's header is copied: place and spacing are the CT's, on which the
mask was found to lie, and the rest is zero. Values that stand for no segment of the
contract are background.

Source: the NIfTI-1 header, https://nifti.nimh.nih.gov.
"""

import gzip
import struct

import numpy as np
from jaxtyping import Float, Shaped

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.deidentified.safe_labels import SafeLabels
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.masks.nifti_mask import (
    NiftiLabels,
    NiftiMask,
    read_nifti_mask,
)
from acfnet_core.cohort.masks.segmentation import channel_of

_HEADER_BYTES = 348
_OFFSET_BYTES = 352
_UNITS_MM = 2
_ALIGNED = 2
"""The code of coordinates that are aligned to something: here, DICOM's."""
_MAX_UINT8 = 255
_TO_RIGHT_FRONT_HEAD = np.diag([-1.0, -1.0, 1.0, 1.0])


def safe_labels(
    labels: NiftiLabels, imaging: ImagingExpectations
) -> dict[int, tuple[str, ...]]:
    """Return what the values of a copy's masks mean, in the contract's own words.

    Args:
        labels: What they mean at the site.
        imaging: The contract's segments.
    """
    safe = SafeLabels(imaging)
    named = {
        value: tuple(
            name
            for label in labels[value]
            if (name := safe.name_for(label)) is not None
        )
        for value in sorted(labels)
    }
    return {value: names for value, names in named.items() if names}


def copy_nifti_mask(
    mask: NiftiMask, series: GatedSeries, imaging: ImagingExpectations
) -> bytes:
    """Return the copy of a mask, as .nii.gz.

    Raises:
        ScanRefusedError: The series or the mask cannot be read, or the mask does not
            lie on the series.
    """
    volume = read_dicom_series(series)
    known = {v for v, name in mask.labels if channel_of(name, imaging) is not None}
    dtype = "<u1" if max(known, default=0) <= _MAX_UINT8 else "<u2"
    values = np.zeros(volume.hu.shape, dtype)
    segments = read_nifti_mask(mask, volume)
    for (value, _), (_, voxels) in zip(mask.labels, segments, strict=True):
        if value in known:
            values[voxels] = value
    return gzip.compress(_nifti_bytes(values, volume.affine), mtime=0)


def _nifti_bytes(
    values: Shaped[np.ndarray, "slice row column"], affine: Float[np.ndarray, "4 4"]
) -> bytes:
    """Return a NIfTI-1 file whose first axis is the column, as it is stored."""
    placed = _TO_RIGHT_FRONT_HEAD @ affine[:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(placed[:3, :3], axis=0)
    header = bytearray(_OFFSET_BYTES)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *reversed(values.shape), 1, 1, 1, 1)
    is_byte = values.dtype.itemsize == 1
    struct.pack_into("<2h", header, 70, 2 if is_byte else 512, 8 if is_byte else 16)
    struct.pack_into("<8f", header, 76, 1.0, *spacing, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<f", header, 108, float(_OFFSET_BYTES))
    struct.pack_into("<b", header, 123, _UNITS_MM)
    struct.pack_into("<2h", header, 252, 0, _ALIGNED)
    struct.pack_into("<12f", header, 280, *placed[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + values.tobytes()
