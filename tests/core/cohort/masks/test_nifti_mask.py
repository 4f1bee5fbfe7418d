import itertools
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from pydicom import Dataset
from references.ct_series import (
    SHAPE,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.shared_data import SHARED_DATA
from references.structure_sets import (
    affine_of,
    liver_contours,
    write_nifti,
    write_structures,
)

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder, is_nifti_mask
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, mend_index
from acfnet_core.cohort.masks.nifti_mask import NiftiLabels
from acfnet_core.cohort.masks.segmentation import (
    Masks,
    SegmentationKind,
    choose_segmentation,
    kind_of,
    read_segmentation,
    segmentations_of,
)

LABELS: NiftiLabels = {1: ("Liver",), 2: ("Liver", "Tumor"), 7: ("Spleen",)}
Values = npt.NDArray[np.generic]


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _read(folder: Path, labels: NiftiLabels = LABELS) -> Masks:
    index = index_folder(folder)
    (series,) = (one for one in gate_index(index, _imaging()) if one.is_accepted)
    segmentations = segmentations_of(index, labels)
    chosen = choose_segmentation(series, segmentations, _imaging())
    return read_segmentation(chosen, read_dicom_series(series), _imaging())


def _refusal_of(folder: Path, labels: NiftiLabels = LABELS) -> str:
    with pytest.raises(ScanRefusedError) as caught:
        _read(folder, labels)
    return caught.value.reason_code


def _values() -> npt.NDArray[np.uint8]:
    """Return a liver of value 1, four tumour voxels of value 2 and another organ."""
    values = liver_box()
    values[5, 12:14, 10:12] = 2
    values[0, 0, 0] = 7
    return values


def _patient(folder: Path) -> list[Dataset]:
    slices = make_series()
    write_series(slices, folder)
    return slices


def _mask(folder: Path, values: Values, *, name: str = "segmentation.nii.gz") -> Path:
    return write_nifti(folder / name, values, affine_of(_patient(folder)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("segmentation.nii.gz", True),
        ("seg.nii", True),
        ("Patient_7_SEG.nii.gz", True),
        ("liver_segmentation.nii", True),
        ("ct.nii.gz", False),
        ("myseg.nii.gz", False),
        ("seg.nii.gz.bak", False),
        ("seg.dcm", False),
    ],
)
def test_a_mask_is_known_by_its_name(name: str, *, expected: bool) -> None:
    assert is_nifti_mask(Path("folder") / name) is expected


def test_the_segments_are_the_voxels_of_their_values(tmp_path: Path) -> None:
    _mask(tmp_path, _values())
    masks = _read(tmp_path)
    assert set(masks) == {"liver", "tumour"}
    np.testing.assert_array_equal(masks["liver"], liver_box() > 0)
    np.testing.assert_array_equal(masks["tumour"], _values() == 2)


def test_a_value_that_stands_for_one_segment_is_not_another(tmp_path: Path) -> None:
    _mask(tmp_path, _values())
    masks = _read(tmp_path, {1: ("Liver",), 2: ("Tumor",)})
    np.testing.assert_array_equal(masks["liver"], _values() == 1)


def test_an_unpacked_file_is_read_alike(tmp_path: Path) -> None:
    _mask(tmp_path, _values(), name="seg.nii")
    np.testing.assert_array_equal(_read(tmp_path)["liver"], liver_box() > 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(), (1,), (0, 2), (0, 1, 2)])
def test_axes_may_run_in_any_order_and_direction(
    order: tuple[int, int, int], flipped: tuple[int, ...], tmp_path: Path
) -> None:
    affine = affine_of(_patient(tmp_path))
    path = tmp_path / "seg.nii.gz"
    write_nifti(path, _values(), affine, order=order, flipped=flipped)
    np.testing.assert_array_equal(_read(tmp_path)["tumour"], _values() == 2)


def test_oblique_slices_are_matched(tmp_path: Path) -> None:
    slices = make_series()
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = [0.8, 0.6, 0, 0, 0, -1]
        place = np.array([-0.6, 0.8, 0]) * index * 5.0 + [-90.0, -80.0, 40.0]
        one.ImagePositionPatient = place.tolist()
    write_series(slices, tmp_path)
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine_of(slices), flipped=(2,))
    np.testing.assert_array_equal(_read(tmp_path)["tumour"], _values() == 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mask_turned_over_without_saying_so_is_refused(
    axis: int, tmp_path: Path
) -> None:
    affine = affine_of(_patient(tmp_path))
    affine[:3, axis] *= -1
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine)
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


@pytest.mark.parametrize("shift_mm", [(0.15, 0, 0), (0, -0.15, 0), (0, 0, 5.0)])
def test_voxels_beside_the_cts_are_refused(
    shift_mm: tuple[float, float, float], tmp_path: Path
) -> None:
    affine = affine_of(_patient(tmp_path))
    affine[:3, 3] += shift_mm
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine)
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


def test_a_rounded_place_is_taken(tmp_path: Path) -> None:
    affine = affine_of(_patient(tmp_path))
    affine[:3, 3] += 0.05
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine)
    np.testing.assert_array_equal(_read(tmp_path)["liver"], liver_box() > 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_another_spacing_is_refused(axis: int, tmp_path: Path) -> None:
    affine = affine_of(_patient(tmp_path))
    affine[:3, axis] *= 1.01
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine)
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


def test_another_size_is_refused(tmp_path: Path) -> None:
    _mask(tmp_path, _values()[:-1])
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


def test_a_fourth_axis_is_refused(tmp_path: Path) -> None:
    _patient(tmp_path)
    image = SimpleITK.JoinSeries([SimpleITK.Image(4, 4, 4, SimpleITK.sitkUInt8)] * 2)
    SimpleITK.WriteImage(image, str(tmp_path / "seg.nii.gz"))
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


def test_a_file_that_does_not_say_where_it_lies_is_refused(tmp_path: Path) -> None:
    # Without a place, readers put the first voxel at 0 and choose directions.
    slices = make_series()
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        one.ImagePositionPatient = [0.0, 0.0, index * 5.0]
    write_series(slices, tmp_path)
    path = write_nifti(tmp_path / "seg.nii", _values(), affine_of(slices))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(content)
    assert _refusal_of(tmp_path) == "NIFTI_OFF_GRID"


def test_fractions_are_refused(tmp_path: Path) -> None:
    _mask(tmp_path, _values().astype(np.float32) * np.float32(0.5))
    assert _refusal_of(tmp_path) == "NIFTI_NO_MASK"


def test_whole_numbers_may_be_stored_as_floats(tmp_path: Path) -> None:
    _mask(tmp_path, _values().astype(np.float32))
    np.testing.assert_array_equal(_read(tmp_path)["tumour"], _values() == 2)


@pytest.mark.parametrize("num_bytes", [20, 200])
def test_a_truncated_file_is_refused(num_bytes: int, tmp_path: Path) -> None:
    path = _mask(tmp_path, _values(), name="seg.nii")
    path.write_bytes(path.read_bytes()[:-num_bytes])
    assert _refusal_of(tmp_path) == "SEG_UNREADABLE"


def test_a_file_that_is_no_nifti_is_refused(tmp_path: Path) -> None:
    _patient(tmp_path)
    (tmp_path / "seg.nii.gz").write_text("nothing to see")
    assert _refusal_of(tmp_path) == "SEG_UNREADABLE"


def test_reading_a_damaged_file_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _patient(tmp_path)
    (tmp_path / "Canary_seg.nii.gz").write_text("nothing to see")
    _refusal_of(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_without_the_meaning_of_values_a_mask_is_refused(tmp_path: Path) -> None:
    _mask(tmp_path, _values())
    assert _refusal_of(tmp_path, {}) == "NIFTI_NO_LABELS"


@pytest.mark.parametrize("labels", [{2: ("Tumor",)}, {3: ("Liver",)}])
def test_a_mask_without_liver_is_refused(labels: NiftiLabels, tmp_path: Path) -> None:
    _mask(tmp_path, _values())
    assert _refusal_of(tmp_path, labels) == "SEG_NO_LIVER"


def test_two_masks_in_a_folder_are_refused(tmp_path: Path) -> None:
    path = _mask(tmp_path, _values())
    shutil.copy(path, tmp_path / "other_seg.nii.gz")
    assert _refusal_of(tmp_path) == "NIFTI_AMBIGUOUS"


def test_two_series_in_a_folder_are_refused(tmp_path: Path) -> None:
    _mask(tmp_path, _values())
    write_series(make_series(number=3, num_slices=1), tmp_path / "more")
    (tmp_path / "more" / "000-0.dcm").rename(tmp_path / "scout.dcm")
    assert _refusal_of(tmp_path) == "NIFTI_AMBIGUOUS"


def test_a_mask_in_another_folder_belongs_to_no_series(tmp_path: Path) -> None:
    write_nifti(tmp_path / "seg.nii.gz", _values(), affine_of(_patient(tmp_path / "a")))
    assert _refusal_of(tmp_path) == "NO_SEGMENTATION"


def _kind_chosen(folder: Path) -> SegmentationKind:
    index = index_folder(folder)
    (series,) = gate_index(index, _imaging())
    segmentations = segmentations_of(index, LABELS)
    return kind_of(choose_segmentation(series, segmentations, _imaging()))


@pytest.mark.parametrize(
    ("seg", "structure", "kind"),
    [
        ("Liver", "Liver", "DICOM SEG"),
        ("Spleen", "Liver", "RTSTRUCT"),
        ("Spleen", "Spleen", "NIfTI"),
    ],
)
def test_of_several_formats_the_first_with_a_liver_is_taken(
    seg: str, structure: str, kind: SegmentationKind, tmp_path: Path
) -> None:
    _mask(tmp_path / "ct", _values())
    write_segmentation(make_series(), tmp_path / "z.dcm", {seg: liver_box()})
    structures = {structure: liver_contours()}
    write_structures(make_series(), tmp_path / "a.dcm", structures)
    assert _kind_chosen(tmp_path) == kind


def test_an_ambiguous_mask_does_not_hinder_a_segmentation(tmp_path: Path) -> None:
    path = _mask(tmp_path, _values())
    shutil.copy(path, tmp_path / "other_seg.nii.gz")
    write_segmentation(make_series(), tmp_path / "z.dcm", {"Liver": liver_box()})
    assert _kind_chosen(tmp_path) == "DICOM SEG"


def test_a_real_mask_lies_on_the_liver_of_its_ct(tmp_path: Path) -> None:
    folder = SHARED_DATA / "ct-totalsegmentator"
    if not folder.is_dir():
        pytest.skip("the public CT and its mask are not beside this checkout")
    ct = tmp_path / "P-001" / "ct"
    shutil.copytree(folder / "dicom", ct)
    shutil.copy(folder / "example_seg_dicom.nii.gz", ct / "seg.nii.gz")
    (gated,) = gate_index(index_folder(tmp_path), _imaging())
    assert set(gated.codes) == {"NO_PATIENT_ID", "EMPTY_UID"}
    # Its UIDs are empty: it comes in where the site lets them be made up.
    index = mend_index(index_folder(tmp_path), tmp_path, ALL_REPAIRS)
    (series,) = gate_index(index, _imaging(), ALL_REPAIRS)
    drawn = segmentations_of(index, {5: ("Liver",)})
    mask = choose_segmentation(series, drawn, _imaging())
    volume = read_dicom_series(series)
    liver = read_segmentation(mask, volume, _imaging())["liver"]
    assert (series.headers[0].patient_id, liver.shape) == ("P-001", (20, 512, 512))
    assert volume.hu[liver].mean() == pytest.approx(89, abs=1)


def test_the_shape_of_the_fixture_tells_its_axes_apart() -> None:
    assert len(set(SHAPE)) == 3
