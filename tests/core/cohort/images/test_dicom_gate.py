from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from references.ct_series import (
    INTERCEPT,
    ORIGIN_MM,
    PATIENT_NAME,
    SHAPE,
    SPACING_MM,
    hu_at,
    make_series,
    uid_of,
    write_series,
)
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.header_values import number_of
from acfnet_core.cohort.images.refusals import GATE_CODES, ScanRefusedError

IMAGING = shipped_contract("crlm").imaging


def _imaging() -> ImagingExpectations:
    assert IMAGING is not None
    return IMAGING


def _gate(folder: Path) -> tuple[GatedSeries, ...]:
    return gate_index(index_folder(folder), _imaging())


def _gate_one(slices: list[Dataset], folder: Path) -> GatedSeries:
    write_series(slices, folder)
    (series,) = _gate(folder)
    return series


def _set(name: str, value: object, *, only: int | None = None) -> Callable[..., None]:
    def change(slices: list[Dataset]) -> None:
        for one in slices if only is None else [slices[only]]:
            setattr(one, name, value)

    return change


def _remove(name: str, index: int) -> Callable[..., None]:
    def change(slices: list[Dataset]) -> None:
        delattr(slices[index], name)

    return change


def _shift(index: int, by_mm: tuple[float, float, float]) -> Callable[..., None]:
    def change(slices: list[Dataset]) -> None:
        old = slices[index].ImagePositionPatient
        moved = [float(a) + b for a, b in zip(old, by_mm, strict=True)]
        slices[index].ImagePositionPatient = moved

    return change


def _drop_middle(slices: list[Dataset]) -> None:
    del slices[6]


def _double_spacing_above(slices: list[Dataset]) -> None:
    for index in range(6, len(slices)):
        z = ORIGIN_MM[2] + (2 * index - 5) * SPACING_MM[0]
        slices[index].ImagePositionPatient = [*ORIGIN_MM[:2], z]


def _tilt(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, float(y) + index * 1.34, z]


def _double_a_position(slices: list[Dataset]) -> None:
    slices[4].ImagePositionPatient = slices[3].ImagePositionPatient


def _cut_pixels(slices: list[Dataset]) -> None:
    slices[5].PixelData = slices[5].PixelData[:-100]


def _shrink(slices: list[Dataset]) -> None:
    slices[2].Rows, slices[2].Columns = 16, 16
    slices[2].PixelData = bytes(2 * 16 * 16)


def _conflict(slices: list[Dataset]) -> None:
    slices[7].SOPInstanceUID = slices[6].SOPInstanceUID


def _keep_two(slices: list[Dataset]) -> None:
    del slices[2:]


def _spread(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        one.ImagePositionPatient = [*ORIGIN_MM[:2], 20.0 * index]


REFUSED: dict[str, tuple[str, Callable[[list[Dataset]], None]]] = {
    "a slice of another patient": ("MIXED_PATIENT", _set("PatientID", "Q", only=3)),
    "a slice of another study": (
        "MIXED_STUDY",
        _set("StudyInstanceUID", "1.2.3", only=3),
    ),
    "no patient identifier": ("NO_PATIENT_ID", _set("PatientID", "")),
    "a scout view": ("ONLY_LOCALIZER", _set("ImageType", ["O", "P", "LOCALIZER"])),
    "a scout view inside": (
        "NOT_ORIGINAL_PRIMARY",
        _set("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], only=0),
    ),
    "a derived image": (
        "NOT_ORIGINAL_PRIMARY",
        _set("ImageType", ["DERIVED", "SECONDARY", "REFORMATTED"]),
    ),
    "a slice without position": ("NO_IPP", _remove("ImagePositionPatient", 4)),
    "a slice without orientation": ("NO_IPP", _remove("ImageOrientationPatient", 4)),
    "two slices at a place": ("DUPLICATE_POSITIONS", _double_a_position),
    "a smaller slice": ("MIXED_SIZE", _shrink),
    "a turned slice": (
        "MIXED_ORIENTATION",
        _set("ImageOrientationPatient", [0, 1, 0, -1, 0, 0], only=4),
    ),
    "a finer slice": ("MIXED_PIXELSPACING", _set("PixelSpacing", [3.0, 3.0], only=4)),
    "a missing slice": ("MISSING_SLICES", _drop_middle),
    "spacing that doubles": ("NON_UNIFORM_SPACING", _double_spacing_above),
    "a slice out of step": ("NON_UNIFORM_SPACING", _shift(5, (0, 0, 1.1))),
    "a tilted gantry": ("GANTRY_TILT", _tilt),
    "a slice shifted sideways": ("GANTRY_TILT", _shift(5, (0.5, 0, 0))),
    "no rescale": ("NO_RESCALE", _remove("RescaleSlope", 1)),
    "cut pixel data": ("TRUNCATED", _cut_pixels),
    "lossy compression": ("LOSSY", _set("LossyImageCompression", "01", only=0)),
    "two frames of reference": (
        "MIXED_FRAME_OF_REFERENCE",
        _set("FrameOfReferenceUID", "1.2.3", only=2),
    ),
    "empty study UID": ("EMPTY_UID", _set("StudyInstanceUID", "")),
    "empty series UID": ("EMPTY_UID", _set("SeriesInstanceUID", "")),
    "burned-in text": ("BURNED_IN", _set("BurnedInAnnotation", "YES", only=0)),
    "other pixels, same instance": ("INSTANCE_CONFLICT", _conflict),
    "two slices only": ("TOO_FEW_SLICES", _keep_two),
    "slices far apart": ("THICK_SLICES", _spread),
    "many frames in a file": ("MULTI_FRAME", _set("NumberOfFrames", 2)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_faulty_series_is_refused_with_its_code(case: str, tmp_path: Path) -> None:
    code, change = REFUSED[case]
    slices = make_series()
    change(slices)
    series = _gate_one(slices, tmp_path)
    assert code in series.codes
    assert not series.is_accepted


@pytest.mark.parametrize("case", REFUSED)
def test_reading_a_refused_series_raises_without_identifiers(
    case: str, tmp_path: Path
) -> None:
    slices = make_series("CANARY-42")
    REFUSED[case][1](slices)
    with pytest.raises(ScanRefusedError) as caught:
        read_dicom_series(_gate_one(slices, tmp_path))
    text = f"{caught.value} {caught.value.remedy} {caught.value.__context__}"
    assert "CANARY" not in text
    assert PATIENT_NAME not in text


def test_pixels_of_two_sizes_are_not_called_uneven_as_well(tmp_path: Path) -> None:
    slices = make_series()
    _set("PixelSpacing", [3.0, 3.0], only=4)(slices)
    assert _gate_one(slices, tmp_path).codes == ("MIXED_PIXELSPACING",)


@pytest.mark.parametrize(
    ("thickness_mm", "limit_mm", "codes"),
    [
        (5.0, None, ()),
        (5.0, 5.0, ()),
        (5.04, 5.0, ()),
        (5.2, 5.0, ("THICK_SLICES",)),
        ("", 5.0, ()),
    ],
)
def test_slices_are_thick_beyond_the_contracts_bound(
    tmp_path: Path,
    thickness_mm: float | str,
    limit_mm: float | None,
    codes: tuple[str, ...],
) -> None:
    slices = make_series()
    _set("SliceThickness", thickness_mm)(slices)
    write_series(slices, tmp_path)
    imaging = _imaging().model_copy(update={"max_slice_thickness_mm": limit_mm})
    (series,) = gate_index(index_folder(tmp_path), imaging)
    assert series.codes == codes


@pytest.mark.parametrize(
    ("value", "number"),
    [("5.0", 5.0), ("thin", None), ("nan", None), (["1", "2"], None), (None, None)],
)
def test_a_number_that_nothing_depends_on_breaks_no_file(
    value: object, number: float | None
) -> None:
    assert number_of({"SliceThickness": value}, "SliceThickness") == number


def _reverse(slices: list[Dataset]) -> None:
    slices.reverse()


def _jitter(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y, float(z) + 0.005 * (-1) ** index]


def _halve_slope(slices: list[Dataset]) -> None:
    for one in slices:
        hu = np.frombuffer(one.PixelData, "<i2").astype(int) + INTERCEPT
        one.RescaleSlope = 0.5
        one.PixelData = ((hu - INTERCEPT) * 2).astype("<i2").tobytes()


def _rescale_one(slices: list[Dataset]) -> None:
    hu = np.frombuffer(slices[3].PixelData, "<i2").astype(int) + INTERCEPT
    slices[3].RescaleIntercept = -500
    slices[3].PixelData = (hu + 500).astype("<i2").tobytes()


ACCEPTED: dict[str, Callable[[list[Dataset]], None]] = {
    "as it is": lambda slices: None,
    "in reverse": _reverse,
    "5 micrometres of jitter": _jitter,
    "slope of a half": _halve_slope,
    "another intercept in a slice": _rescale_one,
    "every instance number 1": _set("InstanceNumber", 1),
    "a lying slice location": _set("SliceLocation", 7.0),
    "thickness unlike spacing": _set("SliceThickness", 2.0),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_an_accepted_series_has_every_value_in_its_place(
    case: str, tmp_path: Path
) -> None:
    slices = make_series()
    ACCEPTED[case](slices)
    volume = read_dicom_series(_gate_one(slices, tmp_path))
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    assert volume.hu.shape == SHAPE
    np.testing.assert_allclose(volume.hu, hu_at(places), atol=0.1)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, atol=0.01)


def test_slices_of_a_prone_patient_keep_their_places(tmp_path: Path) -> None:
    slices = make_series()
    for one in slices:
        one.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        one.ImagePositionPatient = [
            ORIGIN_MM[0] + (SHAPE[2] - 1) * SPACING_MM[2],
            ORIGIN_MM[1] + (SHAPE[1] - 1) * SPACING_MM[1],
            one.ImagePositionPatient[2],
        ]
        pixels = np.frombuffer(one.PixelData, "<i2").reshape(SHAPE[1:])
        one.PixelData = pixels[::-1, ::-1].tobytes()
    volume = read_dicom_series(_gate_one(slices, tmp_path))
    place = (volume.affine @ [2, 3, 4, 1])[:3]
    assert volume.hu[2, 3, 4] == hu_at(place)


def test_a_file_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    slices = make_series()
    paths = write_series(slices, tmp_path)
    (tmp_path / "again.dcm").write_bytes(paths[3].read_bytes())
    (series,) = _gate(tmp_path)
    assert series.codes == ("SAME_INSTANCE_TWICE",)
    assert series.is_accepted
    assert len(series.headers) == SHAPE[0]


def test_two_series_in_a_folder_are_kept_apart(tmp_path: Path) -> None:
    write_series(make_series(number=1), tmp_path / "a")
    for path in write_series(make_series(number=2), tmp_path / "b"):
        path.rename(tmp_path / "a" / f"b{path.name}")
    assert [series.codes for series in _gate(tmp_path)] == [(), ()]


def test_a_file_of_garbage_pixels_is_refused_on_reading(tmp_path: Path) -> None:
    paths = write_series(make_series(), tmp_path)
    (series,) = _gate(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-300])
    with pytest.raises(ScanRefusedError) as caught:
        read_dicom_series(series)
    assert caught.value.reason_code == "DECODE_FAILED"


def test_a_series_beside_an_unreadable_header_is_refused(tmp_path: Path) -> None:
    write_series(make_series(), tmp_path)
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    (series,) = _gate(tmp_path)
    assert series.codes == ("BROKEN_NEIGHBOUR",)


def test_every_code_has_a_meaning() -> None:
    assert {code for code, _ in REFUSED.values()} <= set(GATE_CODES)


def test_values_of_the_header_stay_out_of_a_series_repr(tmp_path: Path) -> None:
    series = _gate_one(make_series("CANARY-42", study_date="20190304"), tmp_path)
    text = repr(series)
    assert "CANARY" not in text
    assert "20190304" not in text
    assert uid_of("series", "CANARY-42", "20190304", 0) not in text


def test_real_slices_with_empty_uids_are_refused_for_that() -> None:
    folder = SHARED_DATA / "ct-totalsegmentator" / "dicom"
    if not folder.is_dir():
        pytest.skip("the public CT slices are not beside this checkout")
    (series,) = _gate(folder)
    assert "EMPTY_UID" in series.codes
