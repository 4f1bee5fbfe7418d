from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom.pixels import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless
from references.ct_series import write_segmentation
from references.edge_files import compress_enhanced, write_file
from references.edge_world import NUM_COLUMNS, NUM_ROWS, NUM_SLICES, cut_slices
from references.edge_world import to_enhanced as to_enhanced_file

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images import slice_pixels
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_index
from acfnet_core.cohort.images.dicom_index import DicomIndex, index_folder, quiet_dicom
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.enhanced_ct import plain_frames
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.masks.segmentation import choose_segmentation, read_segmentation
from acfnet_core.cohort.quick_look.inspection import inspect_folder

_SHUFFLED = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
_OBLIQUE = ((1.0, 0.0, 0.0), (0.0, 0.8, 0.6))


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _write(folder: Path, *, syntax: str = ExplicitVRLittleEndian, **how: Any) -> Any:
    slices = cut_slices(**how)
    file = to_enhanced_file([slices[index] for index in _SHUFFLED])
    compress_enhanced(file, syntax)
    write_file(file, folder / "frames.dcm", syntax)
    return file


def _gate(folder: Path) -> tuple[DicomIndex, GatedSeries]:
    index = index_folder(folder)
    (series,) = gate_index(index, _imaging())
    return index, series


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_values_and_affine_are_those_of_highdicom(syntax: str, tmp_path: Path) -> None:
    _write(tmp_path, syntax=syntax, directions=_OBLIQUE, rescale=(0.7, -1000.5))
    volume = read_dicom_series(_gate(tmp_path)[1])
    with quiet_dicom():
        theirs = highdicom.imread(tmp_path / "frames.dcm").get_volume()
    theirs = theirs.match_geometry(
        highdicom.VolumeGeometry(
            affine=volume.affine,
            spatial_shape=volume.hu.shape,
            coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
            frame_of_reference_uid=volume.frame_of_reference_uid,
        )
    )
    np.testing.assert_allclose(volume.affine, theirs.affine, rtol=0, atol=1e-4)
    np.testing.assert_allclose(volume.hu, theirs.array, rtol=0, atol=1e-3)


def test_a_frame_is_a_header_with_its_number(tmp_path: Path) -> None:
    _write(tmp_path)
    (headers,) = index_folder(tmp_path).ct_series
    assert [header.frame_number for header in headers] == list(range(1, NUM_SLICES + 1))
    assert {header.num_frames for header in headers} == {1}


def test_a_frame_lies_where_its_group_says() -> None:
    slices = cut_slices()
    frames = plain_frames(to_enhanced_file([slices[index] for index in _SHUFFLED]))
    found = np.array([frame.ImagePositionPatient for frame in frames], np.float64)
    expected = np.array([slices[index].position for index in _SHUFFLED])
    np.testing.assert_allclose(found, expected)


def test_a_value_of_the_top_level_stands_in_for_none_of_a_group() -> None:
    file: Any = to_enhanced_file(cut_slices())
    file.RescaleSlope, file.RescaleIntercept = 1, -1024
    file.ImagePositionPatient = [0, 0, 0]
    for group in file.PerFrameFunctionalGroupsSequence:
        del group.PixelValueTransformationSequence
        del group.PlanePositionSequence
    names = ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient")
    assert not any(name in frame for frame in plain_frames(file) for name in names)


def test_a_group_may_be_shared() -> None:
    file: Any = to_enhanced_file(cut_slices())
    groups = file.PerFrameFunctionalGroupsSequence
    shared = file.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = groups[0].PixelValueTransformationSequence
    for group in groups:
        del group.PixelValueTransformationSequence
    assert {int(frame.RescaleIntercept) for frame in plain_frames(file)} == {-1024}


def test_the_frames_leave_the_file_as_it_was() -> None:
    file = to_enhanced_file(cut_slices())
    before = file.to_json_dict()
    plain_frames(file)
    assert file.to_json_dict() == before


def test_a_file_without_groups_has_no_plain_frames() -> None:
    file: Any = to_enhanced_file(cut_slices())
    del file.PerFrameFunctionalGroupsSequence
    assert plain_frames(file) == ()


def test_the_file_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, syntax=JPEGLSLossless)
    (_, series), calls = _gate(tmp_path), []

    def count(path: Path) -> Any:
        calls.append(path)
        return iter_pixels(path)

    monkeypatch.setattr(slice_pixels, "iter_pixels", count)
    read_dicom_series(series)
    assert len(calls) == 1


def test_a_file_that_lost_frames_since_the_gate_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    _, series = _gate(tmp_path)
    slices = cut_slices()[:-1]
    write_file(to_enhanced_file(slices), tmp_path / "frames.dcm", "1.2.840.10008.1.2.1")
    with pytest.raises(ScanRefusedError) as caught:
        read_dicom_series(series)
    assert caught.value.reason_code == "DECODE_FAILED"


def test_a_segmentation_of_its_frames_lies_on_its_voxels(tmp_path: Path) -> None:
    file = _write(tmp_path / "ct")
    mask = np.zeros((NUM_SLICES, NUM_ROWS, NUM_COLUMNS), np.uint8)
    mask[2:6, 5:20, 8:30] = 1
    frames = np.stack([mask[index] for index in _SHUFFLED])
    with quiet_dicom():
        write_segmentation([file], tmp_path / "seg.dcm", {"Liver": frames})
    index, series = _gate(tmp_path)
    chosen = choose_segmentation(series, index.segmentations, _imaging())
    masks = read_segmentation(chosen, read_dicom_series(series), _imaging())
    np.testing.assert_array_equal(masks["liver"], mask.astype(bool))


def test_the_quick_look_shows_one_file_and_every_slice(tmp_path: Path) -> None:
    _write(tmp_path)
    (found,) = inspect_folder(tmp_path).series
    assert (found.files, found.shape) == (1, (NUM_SLICES, NUM_ROWS, NUM_COLUMNS))
    assert found.verdict == "accepted"
