import stat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from references.ct_series import ORIGIN_MM, SHAPE, SPACING_MM, hu_at, make_series
from references.shared_data import SHARED_DATA

from acfnet_core import __version__
from acfnet_core.cohort.maps.map_overlay import (
    blend,
    draw_legend,
    scale_of,
    write_overlay,
)

WINDOW_HU = (60.0, 400.0)

Array = npt.NDArray[Any]


def _ct_hu() -> Array:
    z, y, x = (
        np.arange(count) * step + start
        for count, step, start in zip(SHAPE, SPACING_MM, ORIGIN_MM[::-1], strict=True)
    )
    places = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    return hu_at(places).astype(np.int16)


def _density() -> npt.NDArray[np.float32]:
    density = np.zeros(SHAPE, np.float32)
    density[3:9, 8:16, 6:21] = 0.5
    density[3:9, 16:24, 6:21] = -0.5
    return density


def _sources() -> list[Dataset]:
    return make_series()


def _grey(ct_hu: Array) -> Array:
    share = (ct_hu.astype(np.float32) - WINDOW_HU[0]) / WINDOW_HU[1] + 0.5
    return np.rint(np.clip(share, 0, 1) * 255)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("site") / "overlay"
    return write_overlay(folder, _ct_hu(), _density(), _sources(), year=2, scale=0.5)


@pytest.fixture(scope="module")
def files(paths: tuple[Path, ...]) -> list[Any]:
    return [dcmread(path) for path in paths]


def test_there_is_one_image_for_each_slice_that_the_map_reaches(
    paths: tuple[Path, ...],
) -> None:
    assert [path.name for path in paths] == [
        f"slice-{number:03}.dcm" for number in range(4, 10)
    ]


def test_where_the_map_is_zero_the_pixel_is_the_cts_grey(files: list[Any]) -> None:
    for index, file in enumerate(files, start=3):
        shown = file.pixel_array[: SHAPE[1]]
        empty = _density()[index] == 0
        expected = np.repeat(_grey(_ct_hu()[index])[..., None], 3, axis=-1)
        np.testing.assert_array_equal(shown[empty], expected[empty])


def test_without_a_map_the_ct_is_shown_alone(tmp_path: Path) -> None:
    nothing = np.zeros(SHAPE, np.float32)
    paths = write_overlay(tmp_path, _ct_hu(), nothing, _sources(), year=1, scale=1.0)
    for path, ct_hu in zip(paths, _ct_hu(), strict=True):
        shown = dcmread(path).pixel_array[: SHAPE[1]]
        np.testing.assert_array_equal(shown[..., 0], _grey(ct_hu))


@pytest.mark.parametrize(("density", "is_red"), [(0.5, True), (-0.5, False)])
def test_what_raises_is_vermillion_and_what_lowers_is_blue(
    density: float, is_red: bool
) -> None:
    shown = blend(
        np.full((1, 1), 60, np.int16),
        np.full((1, 1), density, np.float32),
        scale=0.5,
        window_hu=WINDOW_HU,
    )
    red, _, blue = map(int, shown[0, 0])
    assert (red > blue) is is_red


def test_beyond_the_scale_the_colour_stays_the_same() -> None:
    ct_hu = np.full((1, 2), 60, np.int16)
    density = np.array([[0.5, 5.0]], np.float32)
    shown = blend(ct_hu, density, scale=0.5, window_hu=WINDOW_HU)
    np.testing.assert_array_equal(shown[0, 0], shown[0, 1])


def test_colour_grows_with_the_density() -> None:
    ct_hu = np.full((1, 5), -140, np.int16)
    density = np.linspace(0, 1, 5, dtype=np.float32)[None]
    shown = blend(ct_hu, density, scale=1.0, window_hu=WINDOW_HU)
    assert (np.diff(shown[0, :, 0].astype(int)) > 0).all()


def test_the_legend_changes_with_the_year() -> None:
    first, second = (draw_legend(512, year=year, scale=0.5) for year in (1, 2))
    assert first.shape != second.shape or (first != second).any()


def test_the_legend_has_ink_and_both_colours() -> None:
    pixels = draw_legend(512, year=1, scale=0.5).reshape(-1, 3).tolist()
    for colour in ([255, 255, 255], [213, 94, 0], [0, 114, 178]):
        assert colour in pixels


def test_the_legend_leaves_room_at_its_right_border() -> None:
    assert not draw_legend(512, year=12, scale=0.5)[:, -2:].any()


def test_the_legend_hides_no_row_of_the_ct(files: list[Any]) -> None:
    legend = draw_legend(SHAPE[2], year=2, scale=0.5)
    assert files[0].Rows == SHAPE[1] + len(legend)
    np.testing.assert_array_equal(files[0].pixel_array[SHAPE[1] :], legend)


def test_each_image_lies_where_its_slice_does(files: list[Any]) -> None:
    for source, file in zip(_sources()[3:9], files, strict=True):
        assert file.ImagePositionPatient == source.ImagePositionPatient
        assert file.ImageOrientationPatient == source.ImageOrientationPatient
        assert file.PixelSpacing == source.PixelSpacing
        assert file.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_slices_sort_by_number_and_by_location(files: list[Any]) -> None:
    numbers = [int(file.InstanceNumber) for file in files]
    locations = [float(file.SliceLocation) for file in files]
    assert numbers == sorted(set(numbers))
    assert locations == sorted(set(locations))


def test_the_images_are_one_new_series(files: list[Any]) -> None:
    (series,) = {file.SeriesInstanceUID for file in files}
    assert series != _sources()[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [([1, 0, 0, 0, 1, 0], ["L", "P"]), ([-1, 0, 0, 0, -1, 0], ["R", "A"])],
)
def test_the_patients_orientation_is_told(
    tmp_path: Path, orientation: list[int], expected: list[str]
) -> None:
    sources = _sources()
    for source in sources:
        source.ImageOrientationPatient = orientation
    path, *_ = write_overlay(tmp_path, _ct_hu(), _density(), sources, year=1, scale=0.5)
    assert list(dcmread(path).PatientOrientation) == expected


def test_an_image_says_what_it_is(files: list[Any]) -> None:
    assert "RESEARCH ONLY" in files[0].SeriesDescription
    assert files[0].BurnedInAnnotation == "YES"
    assert list(files[0].ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert files[0].ManufacturerModelName == "acfnet"
    assert files[0].SoftwareVersions == __version__
    assert "not a forecast" in files[0].DerivationDescription


@pytest.mark.parametrize("name", ["PatientID", "PatientName", "StudyInstanceUID"])
def test_patient_and_study_are_the_cts(files: list[Any], name: str) -> None:
    assert files[0][name].value == _sources()[0][name].value


def test_an_image_refers_to_its_slice(files: list[Any]) -> None:
    (reference,) = files[0].SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == _sources()[3].SOPInstanceUID


@pytest.mark.parametrize(
    "name",
    # What the standard's modules of a secondary capture want to have a value.
    [
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "ConversionType",
        "InstanceNumber",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelData",
        "SpecificCharacterSet",
    ],
)
def test_a_required_element_has_a_value(files: list[Any], name: str) -> None:
    assert not files[0][name].is_empty


def test_the_files_and_their_folder_are_their_owners_alone(
    paths: tuple[Path, ...],
) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700


def test_the_scale_is_the_greatest_density_of_either_sign() -> None:
    density = np.array([[0.25, -0.75]], np.float32)
    assert scale_of(density) == 0.75


def test_the_scale_of_no_map_can_be_used() -> None:
    assert scale_of(np.zeros((2, 2), np.float32)) == 1.0


@pytest.mark.parametrize(
    ("scale", "window_hu", "message"),
    [(0.0, WINDOW_HU, "must be positive"), (1.0, (60.0, 0.0), "must be positive")],
)
def test_a_scale_or_window_that_shows_nothing_is_refused(
    tmp_path: Path, scale: float, window_hu: tuple[float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_overlay(
            tmp_path,
            _ct_hu(),
            _density(),
            _sources(),
            year=1,
            scale=scale,
            window_hu=window_hu,
        )


def test_a_real_ct_is_shown_under_its_map(tmp_path: Path) -> None:
    folder = SHARED_DATA / "ct-dcmqi" / "ct-3slice"
    if not folder.is_dir():
        pytest.skip("the public CT files are not on this machine")
    sources = [dcmread(path) for path in sorted(folder.iterdir())]
    sources.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    ct_hu = np.stack(
        [
            one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
            for one in sources
        ]
    )
    density = np.zeros(ct_hu.shape, np.float32)
    density[:, 200:260, 120:220] = 0.5
    paths = write_overlay(tmp_path, ct_hu, density, sources, year=1, scale=0.5)
    shown = dcmread(paths[1]).pixel_array[: ct_hu.shape[1]]
    empty = density[1] == 0
    np.testing.assert_array_equal(shown[empty][:, 0], _grey(ct_hu[1])[empty])
