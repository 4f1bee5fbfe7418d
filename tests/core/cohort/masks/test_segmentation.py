from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from references.ct_series import (
    SHAPE,
    liver_box,
    make_series,
    uid_of,
    write_segmentation,
    write_series,
)
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_index
from acfnet_core.cohort.images.dicom_index import DicomIndex, index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.segmentation import (
    Masks,
    channel_of,
    choose_segmentation,
    read_segmentation,
)

Mask = npt.NDArray[np.uint8]


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _look(folder: Path) -> tuple[DicomIndex, GatedSeries]:
    index = index_folder(folder)
    (series,) = gate_index(index, _imaging())
    return index, series


def _read(folder: Path) -> Masks:
    index, series = _look(folder)
    header = choose_segmentation(series, index.segmentations, _imaging())
    return read_segmentation(header, read_dicom_series(series), _imaging())


def _refusal_of(folder: Path) -> str:
    with pytest.raises(ScanRefusedError) as caught:
        _read(folder)
    return caught.value.reason_code


def _patient(folder: Path) -> list[Dataset]:
    slices = make_series()
    write_series(slices, folder / "ct")
    return slices


def _part(*box: slice) -> Mask:
    mask = np.zeros(SHAPE, np.uint8)
    mask[box] = 1
    return mask


@pytest.mark.parametrize(
    ("label", "channel"),
    [
        ("Liver", "liver"),
        ("LIVER", "liver"),
        ("Liver Remnant", None),
        ("Tumor_1", "tumour"),
        ("Tumour 12", "tumour"),
        ("Portal", "vessel"),
        ("Hepatic", "vessel"),
        ("Hepatic_Artery", None),
        ("Spleen", None),
    ],
)
def test_a_label_belongs_to_its_channel(label: str, channel: str | None) -> None:
    assert channel_of(label, _imaging()) == channel


@given(label=st.text(max_size=20))
def test_any_label_has_a_channel_or_none(label: str) -> None:
    assert channel_of(label, _imaging()) in {None, "liver", "tumour", "vessel"}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_overlapping_segments_keep_every_voxel(kind: str, tmp_path: Path) -> None:
    tumour_1 = _part(slice(4, 6), slice(10, 14), slice(8, 12))
    tumour_2 = _part(slice(5, 8), slice(12, 16), slice(8, 10))
    masks = {
        "Liver": liver_box(),
        "Liver Remnant": _part(slice(3, 9), slice(8, 12)),
        "Portal": np.zeros(SHAPE, np.uint8),
        "Tumor_1": tumour_1,
        "Tumor_2": tumour_2,
    }
    write_segmentation(_patient(tmp_path), tmp_path / "s.dcm", masks, kind=kind)
    read = _read(tmp_path)
    assert set(read) == {"liver", "tumour", "vessel"}
    np.testing.assert_array_equal(read["liver"], liver_box() > 0)
    np.testing.assert_array_equal(read["tumour"], (tumour_1 | tumour_2) > 0)
    assert not read["vessel"].any()


def test_a_channel_without_a_segment_is_absent(tmp_path: Path) -> None:
    masks = {"Liver": liver_box()}
    write_segmentation(_patient(tmp_path), tmp_path / "s.dcm", masks)
    assert set(_read(tmp_path)) == {"liver"}


def test_frames_far_apart_lie_on_their_slices(tmp_path: Path) -> None:
    sparse = _part(slice(2, 11, 4), slice(3, 6), slice(3, 6))
    masks = {"Liver": liver_box(), "Tumor_1": sparse}
    write_segmentation(_patient(tmp_path), tmp_path / "s.dcm", masks)
    np.testing.assert_array_equal(_read(tmp_path)["tumour"], sparse > 0)


def test_the_preferred_description_is_chosen(tmp_path: Path) -> None:
    slices = _patient(tmp_path)
    for name, description in (("a", "AI"), ("b", "Segmentation"), ("c", "AI fixed")):
        path = tmp_path / f"{name}.dcm"
        write_segmentation(
            slices, path, {"Liver": liver_box()}, description=description
        )
    index, series = _look(tmp_path)
    chosen = choose_segmentation(series, index.segmentations, _imaging())
    assert chosen.path.name == "b.dcm"


def test_one_with_a_liver_is_chosen_before_one_without(tmp_path: Path) -> None:
    slices = _patient(tmp_path)
    write_segmentation(slices, tmp_path / "a.dcm", {"Spleen": liver_box()})
    write_segmentation(slices, tmp_path / "b.dcm", {"Liver": liver_box()})
    write_segmentation(slices, tmp_path / "c.dcm", {"Spleen": liver_box()})
    assert _read(tmp_path)["liver"].any()


def test_a_series_without_segmentation_is_refused(tmp_path: Path) -> None:
    _patient(tmp_path)
    assert _refusal_of(tmp_path) == "NO_SEGMENTATION"


def test_a_segmentation_of_another_series_does_not_count(tmp_path: Path) -> None:
    _patient(tmp_path)
    other = make_series(number=5)
    write_segmentation(other, tmp_path / "s.dcm", {"Liver": liver_box()})
    assert _refusal_of(tmp_path) == "NO_SEGMENTATION"


def test_a_segmentation_of_another_patient_does_not_count(tmp_path: Path) -> None:
    slices = _patient(tmp_path)

    def rename(file: Any) -> None:
        file.PatientID = "Q"

    masks = {"Liver": liver_box()}
    write_segmentation(slices, tmp_path / "s.dcm", masks, change=rename)
    assert _refusal_of(tmp_path) == "NO_SEGMENTATION"


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    slices = _patient(tmp_path)

    def move(file: Any) -> None:
        file.FrameOfReferenceUID = uid_of("elsewhere")

    masks = {"Liver": liver_box()}
    write_segmentation(slices, tmp_path / "s.dcm", masks, change=move)
    assert _refusal_of(tmp_path) == "SEG_WRONG_FRAME"


@pytest.mark.parametrize("shift_mm", [(0, 0, 1.5), (0.7, 0, 0), (3.0, 0, 0)])
def test_voxels_beside_the_cts_are_refused(
    shift_mm: tuple[float, float, float], tmp_path: Path
) -> None:
    slices = _patient(tmp_path)
    for one in slices:
        old = one.ImagePositionPatient
        moved = [float(a) + b for a, b in zip(old, shift_mm, strict=True)]
        one.ImagePositionPatient = moved
    write_segmentation(slices, tmp_path / "s.dcm", {"Liver": liver_box()})
    assert _refusal_of(tmp_path) == "SEG_OFF_GRID"


def test_a_multiple_of_the_cts_spacing_is_refused(tmp_path: Path) -> None:
    slices = _patient(tmp_path)
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y, float(z) + index * 5.0]
    write_segmentation(slices, tmp_path / "s.dcm", {"Liver": liver_box()})
    assert _refusal_of(tmp_path) == "SEG_OFF_GRID"


def test_a_mask_beyond_the_ct_is_refused(tmp_path: Path) -> None:
    slices = make_series()
    write_series(slices[:7], tmp_path / "ct")
    write_segmentation(slices, tmp_path / "s.dcm", {"Liver": liver_box()})
    assert _refusal_of(tmp_path) == "SEG_OFF_GRID"


def test_a_segmentation_without_liver_is_refused(tmp_path: Path) -> None:
    write_segmentation(_patient(tmp_path), tmp_path / "s.dcm", {"Tumor_1": liver_box()})
    assert _refusal_of(tmp_path) == "SEG_NO_LIVER"


def test_a_truncated_segmentation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.dcm"
    write_segmentation(_patient(tmp_path), path, {"Liver": liver_box()})
    path.write_bytes(path.read_bytes()[:-200])
    assert _refusal_of(tmp_path) == "SEG_UNREADABLE"


def _real() -> Path:
    folder = SHARED_DATA / "ct-dcmqi"
    if not folder.is_dir():
        pytest.skip("the public CT and segmentations are not beside this checkout")
    return folder


def test_a_real_liver_has_its_known_voxels_and_mean() -> None:
    index, series = _look(_real())
    volume = read_dicom_series(series)
    (header,) = (h for h in index.segmentations if h.path.name == "liver.dcm")
    liver = read_segmentation(header, volume, _imaging())["liver"]
    assert np.count_nonzero(liver) == 107_098
    assert volume.hu[liver].mean() == pytest.approx(37, abs=0.5)


def test_real_segments_that_overlap_keep_their_voxels() -> None:
    index, series = _look(_real())
    (header,) = (h for h in index.segmentations if "overlaps" in h.path.name)
    names = {"liver": ("GREEN",), "tumour": ("ORANGE",), "vessel": ("PURPLE",)}
    imaging = _imaging().model_copy(update={"segments": names})
    masks = read_segmentation(header, read_dicom_series(series), imaging)
    counts = {name: np.count_nonzero(mask) for name, mask in masks.items()}
    assert counts == {"liver": 9602, "tumour": 11888, "vessel": 10743}
