import copy
import stat
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import Dataset, dcmread
from references.ct_series import (
    ORIGIN_MM,
    PATIENT_NAME,
    SHAPE,
    SPACING_MM,
    make_series,
    write_series,
)
from references.shared_data import SHARED_DATA

from acfnet_core import __version__
from acfnet_core.cohort.maps.map_dicom import covered_slices, write_parametric_map
from acfnet_core.errors import DataError

FIRST, LAST = 3, 8
"""The slices that the map of the tests reaches."""
OBLIQUE = [0.8, 0.6, 0, -0.6, 0.8, 0]

Map = npt.NDArray[np.float32]


def _sources() -> list[Dataset]:
    """Return headers without pixels, as they are read at a site."""
    slices = make_series()
    for one in slices:
        del one.PixelData
    return slices


def _density(seed: int = 0) -> Map:
    density = np.zeros(SHAPE, np.float32)
    generator = np.random.default_rng(seed)
    density[FIRST : LAST + 1, 8:24, 6:21] = generator.normal(size=(6, 16, 15))
    return density


def _positions(file: Any) -> list[list[float]]:
    groups = file.PerFrameFunctionalGroupsSequence
    return [list(one.PlanePositionSequence[0].ImagePositionPatient) for one in groups]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "maps" / "year-2.dcm"
    write_parametric_map(path, _density(), _sources(), year=2)
    return path


@pytest.fixture(scope="module")
def file(path: Path) -> Any:
    return dcmread(path)


def _shared(file: Any) -> Any:
    return file.SharedFunctionalGroupsSequence[0]


def test_every_frame_is_the_density_of_its_slice(file: Any) -> None:
    frames = np.frombuffer(file.FloatPixelData, "<f4").reshape(-1, *SHAPE[1:])
    for frame, position in zip(frames, _positions(file), strict=True):
        index = round((position[2] - ORIGIN_MM[2]) / SPACING_MM[0])
        np.testing.assert_array_equal(frame, _density()[index])


def test_the_frames_are_the_slices_that_the_map_reaches(file: Any) -> None:
    found = sorted(position[2] for position in _positions(file))
    assert found == [ORIGIN_MM[2] + i * SPACING_MM[0] for i in range(FIRST, LAST + 1)]


def test_frames_stand_in_the_order_of_their_dimension_index(file: Any) -> None:
    groups = file.PerFrameFunctionalGroupsSequence
    indices = [one.FrameContentSequence[0].DimensionIndexValues for one in groups]
    assert indices == list(range(1, len(indices) + 1))


def test_highdicom_reads_the_density_in_its_place(path: Path) -> None:
    volume = highdicom.imread(path).get_volume(apply_real_world_transform=True)
    for index in ((0, 9, 7), (5, 20, 18)):
        place = volume.map_indices_to_reference(np.array([index]))[0]
        steps = (place - np.array(ORIGIN_MM))[::-1] / SPACING_MM
        expected = _density()[tuple(np.rint(steps).astype(int))]
        assert volume.array[index] == pytest.approx(expected)


def test_spacing_and_orientation_are_the_cts(file: Any) -> None:
    measures = _shared(file).PixelMeasuresSequence[0]
    orientation = _shared(file).PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(measures.PixelSpacing) == [SPACING_MM[1], SPACING_MM[2]]
    assert measures.SpacingBetweenSlices == SPACING_MM[0]
    assert list(orientation) == [1, 0, 0, 0, 1, 0]


def test_an_oblique_series_keeps_its_orientation(tmp_path: Path) -> None:
    sources = _sources()
    for source in sources:
        source.ImageOrientationPatient = OBLIQUE
    write_parametric_map(tmp_path / "one.dcm", _density(), sources, year=1)
    found = _shared(dcmread(tmp_path / "one.dcm")).PlaneOrientationSequence[0]
    assert list(found.ImageOrientationPatient) == OBLIQUE


def test_values_are_mapped_to_logit_per_millilitre_unchanged(file: Any) -> None:
    (mapping,) = _shared(file).RealWorldValueMappingSequence
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1/mL", "UCUM")
    assert mapping.RealWorldValueSlope == 1
    assert mapping.RealWorldValueIntercept == 0


def test_the_mapped_range_holds_every_value(file: Any) -> None:
    (mapping,) = _shared(file).RealWorldValueMappingSequence
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == _density().min()
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == _density().max()


def test_a_window_that_may_be_narrow_shows_zero_in_the_middle(file: Any) -> None:
    (window,) = _shared(file).FrameVOILUTSequence
    assert window.WindowCenter == 0
    assert window.WindowWidth == pytest.approx(2 * np.abs(_density()).max())
    assert window.VOILUTFunction == "LINEAR_EXACT"


def test_the_quantity_is_named(file: Any) -> None:
    (mapping,) = _shared(file).RealWorldValueMappingSequence
    (quantity,) = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence
    assert "attributed image logit" in quantity.CodeMeaning


@pytest.mark.parametrize(
    "name", ["PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_patient_study_and_frame_of_reference_are_the_cts(file: Any, name: str) -> None:
    assert file[name].value == _sources()[0][name].value


def test_the_file_says_that_it_is_research_only(file: Any) -> None:
    assert "RESEARCH ONLY" in file.SeriesDescription
    assert file.ContentQualification == "RESEARCH"


def test_the_file_says_what_made_it(file: Any) -> None:
    assert file.ManufacturerModelName == "acfnet"
    assert file.SoftwareVersions == __version__
    assert list(file.ImageType[:2]) == ["DERIVED", "PRIMARY"]


def test_every_frame_refers_to_the_slice_that_it_lies_on(file: Any) -> None:
    places = {
        str(one.SOPInstanceUID): list(one.ImagePositionPatient) for one in _sources()
    }
    for group, position in zip(
        file.PerFrameFunctionalGroupsSequence, _positions(file), strict=True
    ):
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert places[str(source.ReferencedSOPInstanceUID)] == position


@pytest.mark.parametrize(
    "name",
    # What the standard's modules of a parametric map want to have a value.
    [
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "SeriesNumber",
        "FrameOfReferenceUID",
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "InstanceNumber",
        "ContentDate",
        "ContentTime",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "FloatPixelData",
        "ImageType",
        "ContentLabel",
        "ContentQualification",
        "PresentationLUTShape",
        "PixelPresentation",
        "LossyImageCompression",
        "BurnedInAnnotation",
        "RecognizableVisualFeatures",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "ReferencedSeriesSequence",
        "SpecificCharacterSet",
    ],
)
def test_a_required_element_has_a_value(file: Any, name: str) -> None:
    assert not file[name].is_empty


@pytest.mark.parametrize(
    "name",
    [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "PositionReferenceIndicator",
        "ContentDescription",
        "ContentCreatorName",
        "AcquisitionContextSequence",
    ],
)
def test_an_element_that_may_be_empty_is_there(file: Any, name: str) -> None:
    assert name in file


def test_the_file_and_its_folder_are_its_owners_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_other_file_is_left(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


def test_each_file_is_a_series_of_its_own(tmp_path: Path) -> None:
    uids = set()
    for year in (1, 2):
        write_parametric_map(
            tmp_path / f"{year}.dcm", _density(), _sources(), year=year
        )
        uids.add(dcmread(tmp_path / f"{year}.dcm").SeriesInstanceUID)
    assert len(uids) == 2


def test_elements_that_an_archive_lost_are_written_empty(tmp_path: Path) -> None:
    sources = _sources()
    for source in sources:
        for name in ("PatientBirthDate", "AccessionNumber", "SliceThickness"):
            delattr(source, name)
    write_parametric_map(tmp_path / "one.dcm", _density(), sources, year=1)
    assert dcmread(tmp_path / "one.dcm").PatientBirthDate == ""


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), ("", "Smith^Jo")],
)
def test_a_name_is_kept_in_any_character_set(
    tmp_path: Path, character_set: str, name: str
) -> None:
    sources = make_series()
    for source in sources:
        source.SpecificCharacterSet = character_set
        source.PatientName = name
    paths = write_series(sources, tmp_path / "ct")
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    headers.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    write_parametric_map(tmp_path / "one.dcm", _density(), headers, year=1)
    assert dcmread(tmp_path / "one.dcm").PatientName == name


def test_orientations_that_differ_in_the_last_digit_are_one(tmp_path: Path) -> None:
    sources = _sources()
    sources[4].ImageOrientationPatient = [1, 0.00001, 0, 0, 1, 0]
    write_parametric_map(tmp_path / "one.dcm", _density(), sources, year=1)
    found = _shared(dcmread(tmp_path / "one.dcm")).PlaneOrientationSequence[0]
    assert list(found.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]


def test_the_sources_are_not_changed(tmp_path: Path) -> None:
    sources = _sources()
    del sources[0].AccessionNumber
    before = copy.deepcopy(sources)
    write_parametric_map(tmp_path / "one.dcm", _density(), sources, year=1)
    assert sources == before


def test_headers_that_cannot_be_carried_over_are_refused_without_their_values(
    tmp_path: Path,
) -> None:
    sources = _sources()
    for source in sources:
        source.PatientSex = "CANARY"
    with pytest.raises(DataError) as caught:
        write_parametric_map(tmp_path / "one.dcm", _density(), sources, year=1)
    shown = f"{caught.value} {caught.value.remedy}"
    assert caught.value.code == "data.series_refused"
    assert not any(value in shown for value in ("CANARY", PATIENT_NAME))
    assert caught.value.__suppress_context__


def test_a_map_of_zeros_is_written_whole(tmp_path: Path) -> None:
    density = np.zeros(SHAPE, np.float32)
    write_parametric_map(tmp_path / "one.dcm", density, _sources(), year=1)
    assert dcmread(tmp_path / "one.dcm").NumberOfFrames == SHAPE[0]


@pytest.mark.parametrize(
    ("density", "year", "message"),
    [
        (_density()[1:], 1, "has shape"),
        (np.full(SHAPE, np.nan, np.float32), 1, "not finite"),
        (_density(), 0, "count from 1"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(
    tmp_path: Path, density: Map, year: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_parametric_map(tmp_path / "one.dcm", density, _sources(), year=year)


def test_covered_slices_have_no_gap() -> None:
    density = _density()
    density[5] = 0
    assert covered_slices(density) == slice(FIRST, LAST + 1)


@pytest.mark.parametrize("name", ["ct-dcmqi/ct-3slice", "ct-totalsegmentator/dicom"])
def test_a_real_ct_carries_a_map_in_its_own_geometry(tmp_path: Path, name: str) -> None:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip("the public CT files are not on this machine")
    sources = [dcmread(one, stop_before_pixels=True) for one in folder.iterdir()]
    sources.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    for number, source in enumerate(sources):
        _fill_empty_uids(source, number)
    shape = (len(sources), sources[0].Rows, sources[0].Columns)
    density = np.zeros(shape, np.float32)
    density[1:, 100:200, 120:220] = 0.5
    write_parametric_map(tmp_path / "one.dcm", density, sources, year=1)
    positions = sorted(_positions(dcmread(tmp_path / "one.dcm")), key=lambda p: p[2])
    assert positions == [list(one.ImagePositionPatient) for one in sources[1:]]


def _fill_empty_uids(source: Dataset, number: int) -> None:
    """Fill in the UIDs that one of the public series has lost."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    for name in names:
        setattr(source, name, source.get(name) or "1.2.3")
    source.SOPInstanceUID = source.get("SOPInstanceUID") or f"1.2.3.{number}"
    source.SOPClassUID = source.get("SOPClassUID") or "1.2.840.10008.5.1.4.1.1.2"
