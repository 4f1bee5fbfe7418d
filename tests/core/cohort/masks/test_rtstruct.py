from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom import Dataset
from references.ct_series import (
    PATIENT_NAME,
    SHAPE,
    SPACING_MM,
    liver_box,
    make_series,
    uid_of,
    write_segmentation,
    write_series,
)
from references.structure_sets import Contour, box, liver_contours, write_structures

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.rtstruct import inside_polygon
from acfnet_core.cohort.masks.segmentation import (
    Masks,
    choose_segmentation,
    read_segmentation,
)

Points = npt.NDArray[np.float64]
BIG = (220, 200)


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _read(folder: Path) -> Masks:
    index = index_folder(folder)
    (series,) = gate_index(index, _imaging())
    chosen = choose_segmentation(series, index.segmentations, _imaging())
    return read_segmentation(chosen, read_dicom_series(series), _imaging())


def _refusal_of(folder: Path) -> str:
    with pytest.raises(ScanRefusedError) as caught:
        _read(folder)
    return caught.value.reason_code


def _patient(folder: Path) -> list[Dataset]:
    slices = make_series()
    write_series(slices, folder / "ct")
    return slices


def _draw(folder: Path, tumour: Sequence[Contour]) -> None:
    """Write a CT with a liver, and a tumour of these contours."""
    structures = {"Liver": liver_contours(), "Tumor_1": tumour}
    write_structures(_patient(folder), folder / "rt.dcm", structures)


def _circle(radius: float, centre: tuple[float, float]) -> Points:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    return radius * np.stack([np.sin(angles), np.cos(angles)], axis=1) + centre


@pytest.mark.parametrize("radius", [3.0, 20.5, 80.0])
def test_a_circle_has_its_area(radius: float) -> None:
    inside = inside_polygon(_circle(radius, (100.3, 90.7)), BIG)
    # The error of counting centres grows with the outline, not with the area.
    error = abs(np.count_nonzero(inside) - np.pi * radius**2)
    assert error < 1.0 * radius**0.66 + 1


def test_a_circle_has_its_centre() -> None:
    inside = inside_polygon(_circle(60.0, (100.3, 90.7)), BIG)
    np.testing.assert_allclose(
        np.argwhere(inside).mean(axis=0), [100.3, 90.7], atol=0.02
    )


@given(
    corner=st.tuples(st.floats(0, 20), st.floats(0, 20)),
    size=st.tuples(st.floats(0.1, 30), st.floats(0.1, 30)),
)
@settings(deadline=None, max_examples=50)
def test_a_rectangle_has_the_centres_within_its_sides(
    corner: tuple[float, float], size: tuple[float, float]
) -> None:
    (top, left), (bottom, right) = corner, np.add(corner, size)
    corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
    rows, columns = np.ogrid[:60, :60]
    expected = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    np.testing.assert_array_equal(inside_polygon(corners, (60, 60)), expected)


@given(seed=st.integers(0, 2**32 - 1), num_points=st.integers(3, 40))
@settings(deadline=None, max_examples=30)
def test_a_star_agrees_with_another_program(seed: int, num_points: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, num_points))
    radii = rng.uniform(2, 22, num_points)
    points = np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1) + 15.013
    centres = np.argwhere(np.ones((30, 31), bool))
    expected = Polygon(points, closed=False).contains_points(centres).reshape(30, 31)
    np.testing.assert_array_equal(inside_polygon(points, (30, 31)), expected)


def test_polygons_that_share_a_side_share_no_voxel() -> None:
    left = np.array([[2.0, 2.0], [2.0, 5.0], [8.0, 5.0], [8.0, 2.0]])
    right = left + np.array([0.0, 3.0])
    both = inside_polygon(left, (12, 12)).astype(int) + inside_polygon(right, (12, 12))
    assert (both.max(), both.sum()) == (1, 36)


@pytest.mark.parametrize("num_points", [0, 1, 2])
def test_less_than_a_triangle_holds_no_voxel(num_points: int) -> None:
    points = np.array([[1.0, 1.0], [6.0, 6.0]])[:num_points]
    assert not inside_polygon(points, (9, 9)).any()


def test_the_masks_are_the_voxels_that_were_drawn_around(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((12, 10), (15, 13)))])
    masks = _read(tmp_path)
    np.testing.assert_array_equal(masks["liver"], liver_box() > 0)
    tumour = np.argwhere(masks["tumour"])
    assert (len(tumour), *tumour.min(axis=0)) == (16, 5, 12, 10)


def test_a_mask_agrees_with_the_same_one_as_dicom_seg(tmp_path: Path) -> None:
    slices = _patient(tmp_path / "rt")
    write_structures(slices, tmp_path / "rt" / "1.dcm", {"Liver": liver_contours()})
    write_series(slices, tmp_path / "seg" / "ct")
    write_segmentation(slices, tmp_path / "seg" / "1.dcm", {"Liver": liver_box()})
    drawn, painted = _read(tmp_path / "rt"), _read(tmp_path / "seg")
    np.testing.assert_array_equal(drawn["liver"], painted["liver"])


def test_a_contour_within_another_is_a_hole(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((10, 8), (19, 17))), (5, box((13, 11), (15, 13)))])
    tumour = _read(tmp_path)["tumour"][5]
    assert np.count_nonzero(tumour) == 100 - 9
    assert not tumour[13:16, 11:14].any()


def test_a_hole_reached_by_a_slit_is_a_hole(tmp_path: Path) -> None:
    outer, inner = box((10, 8), (19, 17)), box((13, 11), (15, 13))
    _draw(tmp_path, [(5, [*outer, outer[0], *inner, inner[0]])])
    assert np.count_nonzero(_read(tmp_path)["tumour"]) == 100 - 9


def test_contours_apart_are_both_kept(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((10, 8), (11, 9))), (5, box((14, 8), (16, 10)))])
    assert np.count_nonzero(_read(tmp_path)["tumour"]) == 4 + 9


def test_structures_may_overlap(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((12, 10), (15, 13)))])
    masks = _read(tmp_path)
    assert masks["liver"][masks["tumour"]].all()


def test_structures_of_one_channel_are_joined(tmp_path: Path) -> None:
    structures: dict[str, list[Contour]] = {
        "liver": liver_contours(),
        "tumor_1": [(4, box((12, 10), (13, 11)))],
        "Tumour 2": [(4, box((13, 11), (14, 12)))],
        "BODY": [(4, box((0, 0), (31, 29)))],
    }
    write_structures(_patient(tmp_path), tmp_path / "rt.dcm", structures)
    masks = _read(tmp_path)
    assert set(masks) == {"liver", "tumour"}
    assert np.count_nonzero(masks["tumour"]) == 7


def test_a_structure_without_contours_is_empty(tmp_path: Path) -> None:
    _draw(tmp_path, [])
    assert not _read(tmp_path)["tumour"].any()


@pytest.mark.parametrize(
    "orientation",
    [
        [1, 0, 0, 0, 0, -1],
        [0, 1, 0, 0, 0, -1],
        [-1, 0, 0, 0, -1, 0],
        [0.8, 0.6, 0, -0.6, 0.8, 0],
    ],
)
def test_slices_may_stand_in_any_direction(
    orientation: list[float], tmp_path: Path
) -> None:
    slices = make_series()
    normal = np.cross(orientation[:3], orientation[3:])
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = orientation
        place = normal * index * SPACING_MM[0] + [-90.0, -80.0, 40.0]
        one.ImagePositionPatient = place.tolist()
    write_series(slices, tmp_path / "ct")
    write_structures(slices, tmp_path / "rt.dcm", {"Liver": liver_contours()})
    np.testing.assert_array_equal(_read(tmp_path)["liver"], liver_box() > 0)


def _shifted(folder: Path, shift_mm: tuple[float, float, float]) -> None:
    structures = {"Liver": liver_contours()}
    write_structures(_patient(folder), folder / "rt.dcm", structures, shift_mm=shift_mm)


@pytest.mark.parametrize("shift_mm", [0.3, -0.3, 2.5])
def test_a_contour_between_slices_is_refused(shift_mm: float, tmp_path: Path) -> None:
    _shifted(tmp_path, (0.0, 0.0, shift_mm))
    assert _refusal_of(tmp_path) == "RT_OFF_SLICE"


@pytest.mark.parametrize("shift_mm", [0.2, -0.2])
def test_rounded_heights_lie_on_their_slice(shift_mm: float, tmp_path: Path) -> None:
    _shifted(tmp_path, (0.0, 0.0, shift_mm))
    np.testing.assert_array_equal(_read(tmp_path)["liver"], liver_box() > 0)


def test_a_shift_by_a_voxel_moves_the_mask_by_a_voxel(tmp_path: Path) -> None:
    _shifted(tmp_path, (SPACING_MM[2], 0.0, 0.0))
    moved = np.roll(liver_box(), 1, axis=2) > 0
    np.testing.assert_array_equal(_read(tmp_path)["liver"], moved)


def test_a_contour_above_the_ct_is_refused(tmp_path: Path) -> None:
    _shifted(tmp_path, (0.0, 0.0, 4 * SPACING_MM[0]))
    assert _refusal_of(tmp_path) == "RT_OFF_SLICE"


def test_a_contour_across_the_slices_is_refused(tmp_path: Path) -> None:
    def lean(file: Dataset) -> None:
        data = file.ROIContourSequence[0].ContourSequence[0].ContourData
        data[2] = float(data[2]) + 1.0

    slices = _patient(tmp_path)
    write_structures(
        slices, tmp_path / "rt.dcm", {"Liver": liver_contours()}, change=lean
    )
    assert _refusal_of(tmp_path) == "RT_OFF_SLICE"


def test_a_contour_beside_the_ct_is_refused(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((12, 25), (15, SHAPE[2] + 1)))])
    assert _refusal_of(tmp_path) == "RT_BEYOND_CT"


def test_a_contour_along_the_border_is_taken(tmp_path: Path) -> None:
    _draw(tmp_path, [(5, box((0, 0), (SHAPE[1] - 1, SHAPE[2] - 1)))])
    assert np.count_nonzero(_read(tmp_path)["tumour"]) == SHAPE[1] * SHAPE[2]


@pytest.mark.parametrize("other", [box((10, 8), (19, 17)), box((15, 8), (24, 17))])
def test_contours_that_cross_or_repeat_are_refused(
    other: list[tuple[float, float]], tmp_path: Path
) -> None:
    _draw(tmp_path, [(5, box((10, 8), (19, 17))), (5, other)])
    assert _refusal_of(tmp_path) == "RT_CONTOURS_CROSS"


def test_a_tumour_on_every_second_slice_is_refused(tmp_path: Path) -> None:
    _draw(tmp_path, [(index, box((12, 10), (15, 13))) for index in (2, 4, 6, 8)])
    assert _refusal_of(tmp_path) == "RT_SLICES_SKIPPED"


def test_lesions_on_slices_apart_are_taken(tmp_path: Path) -> None:
    _draw(tmp_path, [(index, box((12, 10), (12, 10))) for index in (3, 5, 8)])
    assert np.count_nonzero(_read(tmp_path)["tumour"]) == 3


def test_a_liver_with_a_gap_is_refused(tmp_path: Path) -> None:
    contours = [one for one in liver_contours() if one[0] != 5]
    write_structures(_patient(tmp_path), tmp_path / "rt.dcm", {"Liver": contours})
    assert _refusal_of(tmp_path) == "RT_SLICES_SKIPPED"


def _first_contour(file: Dataset) -> Dataset:
    contour: Dataset = file.ROIContourSequence[0].ContourSequence[0]
    return contour


def _make_open(file: Dataset) -> None:
    _first_contour(file).ContourGeometricType = "OPEN_PLANAR"


def _miscount(file: Dataset) -> None:
    _first_contour(file).NumberOfContourPoints = 17


def _take_points(file: Dataset) -> None:
    del _first_contour(file).ContourData


def _move_frame(file: Dataset) -> None:
    file.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = uid_of("other")
    file.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = uid_of("other")


def _move_structure(file: Dataset) -> None:
    file.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = uid_of("other")


def _name_other_series(file: Dataset) -> None:
    study = file.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = uid_of("other")


def _rename_patient(file: Dataset) -> None:
    file.PatientID = "Q"


def _rename_liver(file: Dataset) -> None:
    file.StructureSetROISequence[0].ROIName = "Spleen"


def _take_contours(file: Dataset) -> None:
    file.ROIContourSequence[0].ContourSequence = []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_make_open, "RT_NOT_CLOSED_PLANAR"),
        (_miscount, "SEG_UNREADABLE"),
        (_take_points, "SEG_UNREADABLE"),
        (_move_frame, "SEG_WRONG_FRAME"),
        (_move_structure, "SEG_WRONG_FRAME"),
        (_name_other_series, "NO_SEGMENTATION"),
        (_rename_patient, "NO_SEGMENTATION"),
        (_rename_liver, "SEG_NO_LIVER"),
        (_take_contours, "SEG_NO_LIVER"),
    ],
)
def test_a_file_with_a_fault_is_refused(
    change: Callable[[Dataset], None], code: str, tmp_path: Path
) -> None:
    structures = {"Liver": liver_contours()}
    write_structures(_patient(tmp_path), tmp_path / "rt.dcm", structures, change=change)
    assert _refusal_of(tmp_path) == code


def test_a_fault_of_a_structure_that_is_not_used_does_not_count(tmp_path: Path) -> None:
    def spoil(file: Dataset) -> None:
        file.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "POINT"

    structures: dict[str, list[Contour]] = {
        "Liver": liver_contours(),
        "Marker": [(5, [(1.0, 1.0)])],
    }
    write_structures(_patient(tmp_path), tmp_path / "rt.dcm", structures, change=spoil)
    assert set(_read(tmp_path)) == {"liver"}


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    _shifted(tmp_path, (0.0, 0.0, 0.0))
    path = tmp_path / "rt.dcm"
    path.write_bytes(path.read_bytes()[:-200])
    index = index_folder(tmp_path)
    codes = [_refusal_of(tmp_path)] if index.segmentations else ["SEG_UNREADABLE"]
    assert codes == ["SEG_UNREADABLE"]


def test_no_refusal_names_the_patient(tmp_path: Path) -> None:
    _shifted(tmp_path, (0.0, 0.0, 1.0))
    with pytest.raises(ScanRefusedError) as caught:
        _read(tmp_path)
    shown = f"{caught.value!r} {caught.value.as_json()} {caught.value.__cause__}"
    assert PATIENT_NAME not in shown
    assert "P-007" not in shown
