"""Masks from NIfTI, which has no identity: the site says what belongs to what.

The rule: a mask lies in the folder of the CT series it was drawn on, named as
`dicom_index.is_nifti_mask` says, and is the only one there; the folder holds no other
CT series. What its values mean stands in site.toml, section [data.nifti_labels]. A mask
is used only when its voxels are the CT's: the same sizes, and corners within 0.1 mm.
NIfTI's axes may run in any order and direction, and are turned to the CT's.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float, Shaped

from acfnet_core.cohort.images.dicom_index import DicomIndex
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.volume import SeriesGeometry
from acfnet_core.cohort.masks.nifti_contents import NIFTI_ERRORS, read_nifti_contents
from acfnet_core.cohort.spool import SpooledList

NiftiLabels = Mapping[int, tuple[str, ...]]
"""Value in a mask -> the segments that it stands for."""

_TOLERANCE_MM = 0.1


@dataclass(frozen=True, kw_only=True)
class NiftiMask:
    """A NIfTI mask with what its folder and the site's settings say of it.

    Attributes:
        patient_ids: Of the CT files in its folder.
        series_uids: The CT series in its folder.
        is_alone: It is the only mask in its folder.
        labels: Pairs of a value and a segment's name.
    """

    path: Path = field(repr=False)
    patient_ids: tuple[str, ...] = field(repr=False)
    series_uids: tuple[str, ...] = field(repr=False)
    is_alone: bool
    labels: tuple[tuple[int, str], ...]

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """The names of the segments that it can hold."""
        return tuple(name for _, name in self.labels)


def place_masks(index: DicomIndex, labels: NiftiLabels) -> Iterator[NiftiMask]:
    """Yield the masks of an index with the CT series in their folders.

    Args:
        index: Of the site's images.
        labels: What the values in the site's masks mean.
    """
    masks: SpooledList[Path] = index.spool.new_list()
    for path in index.nifti_masks:
        masks.append(path, keys=[str(path.parent)])
    beside = _series_beside(index, masks)
    pairs = tuple((value, name) for value in sorted(labels) for name in labels[value])
    for path in masks:
        folder = str(path.parent)
        found = list(beside.find(folder))
        yield NiftiMask(
            path=path,
            patient_ids=tuple(sorted({patient_id for _, patient_id in found})),
            series_uids=tuple(sorted({series_uid for series_uid, _ in found})),
            is_alone=len(masks.places(folder)) == 1,
            labels=pairs,
        )


def _series_beside(
    index: DicomIndex, masks: SpooledList[Path]
) -> SpooledList[tuple[str, str]]:
    """Return series and patient of the CT files beside masks, by their folders."""
    beside: SpooledList[tuple[str, str]] = index.spool.new_list()
    if not masks:
        return beside
    for headers in index.ct_series:
        places = {(h.path.parent, h.series_uid, h.patient_id) for h in headers}
        for folder, series_uid, patient_id in places:
            if masks.has(str(folder)):
                beside.append((series_uid, patient_id), keys=[str(folder)])
    return beside


def read_nifti_mask(
    mask: NiftiMask, series: SeriesGeometry
) -> Iterator[tuple[str, Bool[np.ndarray, "slice row column"]]]:
    """Yield name and mask of each segment, on the voxels of the CT.

    A value that the labels do not name is background.

    Raises:
        ScanRefusedError: The file cannot be read, does not lie on the CT, or is no
            mask: its values are not whole numbers from 0.
    """
    values = _read_on_series(mask.path, series)
    for value, name in mask.labels:
        yield name, values == value


def _read_on_series(
    path: Path, series: SeriesGeometry
) -> Shaped[np.ndarray, "slice row column"]:
    """Return the values with their axes turned to the CT's."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    warns = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        # The header first: a file of another size is not unpacked.
        reader.ReadImageInformation()
        order, is_reversed = _match_axes(reader, series)
        _refuse_unless_labels(path)
        values = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        # The error's text holds the file's path, which may name the patient.
        raise ScanRefusedError("SEG_UNREADABLE") from None
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warns)
    turned = values.transpose(order)
    return np.flip(turned, tuple(i for i in range(3) if is_reversed[i]))


def _refuse_unless_labels(path: Path) -> None:
    """Read the file once by ourselves: SimpleITK 2.5 fills up one that breaks off."""
    try:
        found = read_nifti_contents(path)
    except NIFTI_ERRORS:
        # The error's text may hold the file's path: it must not be chained.
        raise ScanRefusedError("SEG_UNREADABLE") from None
    if found.voxels is None:
        raise ScanRefusedError("NIFTI_NO_MASK")


def _match_axes(
    reader: Any, series: SeriesGeometry
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return for each axis of the CT the mask's, and whether that runs backwards.

    Raises:
        ScanRefusedError: The voxels are not the CT's.
    """
    if reader.GetDimension() != 3 or not _has_place(reader):
        raise ScanRefusedError("NIFTI_OFF_GRID")
    affine = _affine_of(reader)
    between = np.linalg.inv(series.affine)[:3, :3] @ affine[:3, :3]
    order = tuple(int(axis) for axis in np.abs(between).argmax(axis=1))
    shape = tuple(reversed(reader.GetSize()))
    is_permutation = sorted(order) == [0, 1, 2]
    if not is_permutation or tuple(shape[axis] for axis in order) != series.shape:
        raise ScanRefusedError("NIFTI_OFF_GRID")
    is_reversed = tuple(bool(between[i, axis] < 0) for i, axis in enumerate(order))
    for corner in itertools.product((False, True), repeat=3):
        index_ct, index_mask = np.ones(4), np.ones(4)
        for i, at_end in enumerate(corner):
            last = series.shape[i] - 1
            index_ct[i] = last if at_end else 0
            index_mask[order[i]] = last if at_end != is_reversed[i] else 0
        gap_mm = np.linalg.norm(affine @ index_mask - series.affine @ index_ct)
        if not gap_mm <= _TOLERANCE_MM:
            raise ScanRefusedError("NIFTI_OFF_GRID")
    return order, is_reversed


def _has_place(reader: Any) -> bool:
    """Tell whether the header says where the voxels lie, or a place was made up."""
    return any(
        reader.HasMetaDataKey(key) and reader.GetMetaData(key) not in ("", "0")
        for key in ("qform_code", "sform_code")
    )


def _affine_of(reader: Any) -> Float[np.ndarray, "4 4"]:
    """Return the affine from array indices (k, j, i) to DICOM's patient space.

    SimpleITK has turned NIfTI's axes (to the right, front, head) already.
    """
    affine = np.eye(4)
    directions = np.array(reader.GetDirection()).reshape(3, 3)
    affine[:3, :3] = (directions * np.array(reader.GetSpacing()))[:, ::-1]
    affine[:3, 3] = reader.GetOrigin()
    return affine
