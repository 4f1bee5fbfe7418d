import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.edge_files import compress_enhanced, write_file
from references.edge_world import cut_slices, to_enhanced
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.deidentified.image_copy import copy_segmentation, copy_series
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, NO_REPAIRS, mend_index

KEYS = KeyedNames(b"k" * 32)
PATIENT = KEYS.patient("P-007")


def _imaging() -> ImagingExpectations:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    return imaging


def _gate(folder: Path, *, is_repaired: bool = False) -> GatedSeries:
    repairs = ALL_REPAIRS if is_repaired else NO_REPAIRS
    index = mend_index(index_folder(folder), folder, repairs)
    (headers,) = index.ct_series
    return gate_series(headers, _imaging(), repairs=repairs)


def _copies(series: GatedSeries) -> list[Dataset]:
    copies = copy_series(series, PATIENT, _imaging())
    return [dcmread(io.BytesIO(content)) for content in copies]


def _rewrite(path: Path, syntax: UID) -> None:
    file = dcmread(path)
    if syntax.is_compressed:
        file.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        words = np.frombuffer(file.PixelData, "<i2").astype(">i2")
        file.PixelData = words.tobytes()
    # A dataset that was read remembers how it was written.
    anew = Dataset()
    anew.update(file)
    anew.file_meta = file.file_meta
    anew.file_meta.TransferSyntaxUID = syntax
    anew.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("syntax", "written"),
    [
        (ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRBigEndian, ExplicitVRBigEndian),
        (RLELossless, RLELossless),
        (JPEGLSLossless, JPEGLSLossless),
    ],
)
def test_values_are_the_same_in_every_syntax(
    tmp_path: Path, syntax: UID, written: UID
) -> None:
    slices = make_series()
    for path in write_series(slices, tmp_path):
        _rewrite(path, syntax)
    copies = _copies(_gate(tmp_path))
    assert {copy.file_meta.TransferSyntaxUID for copy in copies} == {written}
    expected = [np.frombuffer(one.PixelData, "<i2").reshape(32, 30) for one in slices]
    for copy, values in zip(copies, expected, strict=True):
        np.testing.assert_array_equal(copy.pixel_array, values)


def test_made_up_uids_are_written_into_the_copy(tmp_path: Path) -> None:
    slices = make_series()
    for one in slices:
        one.SeriesInstanceUID = one.FrameOfReferenceUID = ""
    write_series(slices, tmp_path / "P-007")
    series = _gate(tmp_path, is_repaired=True)
    assert series.is_accepted
    assert {copy.SeriesInstanceUID for copy in _copies(series)} == {
        PATIENT.uid(series.headers[0].series_uid)
    }


def test_a_refused_series_is_not_copied(tmp_path: Path) -> None:
    slices = make_series()
    slices[3].BurnedInAnnotation = "YES"
    write_series(slices, tmp_path)
    with pytest.raises(ValueError, match="accepted"):
        _copies(_gate(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: setattr(file, "SOPInstanceUID", "1.2.3"),
        lambda file: setattr(file, "PatientID", "another"),
        lambda file: setattr(file, "ImageType", ["DERIVED", "SECONDARY"]),
        lambda file: delattr(file, "PixelData"),
    ],
)
def test_a_file_that_changed_since_it_was_judged_is_refused(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    paths = write_series(make_series(), tmp_path)
    series = _gate(tmp_path)
    file = dcmread(paths[4])
    change(file)
    file.save_as(paths[4])
    with pytest.raises(ScanRefusedError, match="DECODE_FAILED"):
        _copies(series)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_keeps_its_voxels(tmp_path: Path, kind: str) -> None:
    slices = make_series()
    masks = {"Liver": liver_box(), "Smith's scar": liver_box()}
    path = write_segmentation(slices, tmp_path / "1.dcm", masks, kind=kind)
    (header,) = index_folder(tmp_path).segmentations
    copy = dcmread(io.BytesIO(copy_segmentation(header, PATIENT, _imaging())))
    np.testing.assert_array_equal(copy.pixel_array, dcmread(path).pixel_array)
    labels = [item.SegmentLabel for item in copy.SegmentSequence]
    assert labels == ["Liver", "Other 1"]


def test_a_segmentation_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = write_segmentation(make_series(), tmp_path / "1.dcm", {"Liver": liver_box()})
    (header,) = index_folder(tmp_path).segmentations
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ScanRefusedError, match="SEG_UNREADABLE"):
        copy_segmentation(header, PATIENT, _imaging())


def test_no_text_of_the_phase_but_the_contracts_is_kept(tmp_path: Path) -> None:
    slices = make_series()
    for one in slices:
        one.SeriesDescription = "Smith PORTAL venous"
    write_series(slices, tmp_path)
    imaging = _imaging().model_copy(update={"phase_words": ("portal", "venous phase")})
    (first, *_) = copy_series(_gate(tmp_path), PATIENT, imaging)
    assert dcmread(io.BytesIO(first)).SeriesDescription == "portal"


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared data is not there")
def test_real_slices_and_livers_keep_their_voxels(tmp_path: Path) -> None:
    folder = SHARED_DATA / "ct-dcmqi"
    index = index_folder(folder)
    (headers,) = index.ct_series
    series = gate_series(headers, _imaging())
    for header, copy in zip(series.headers, _copies(series), strict=True):
        source = dcmread(header.path)
        np.testing.assert_array_equal(copy.pixel_array, source.pixel_array)
        assert copy.ImagePositionPatient == source.ImagePositionPatient
    (liver,) = [one for one in index.segmentations if one.path.name == "liver.dcm"]
    copy = dcmread(io.BytesIO(copy_segmentation(liver, PATIENT, _imaging())))
    assert int(copy.pixel_array.sum()) == 107_098
    assert copy.FrameOfReferenceUID == PATIENT.uid(liver.frame_of_reference_uid)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_a_multi_frame_file_prepares_to_the_same_volume(
    tmp_path: Path, syntax: UID
) -> None:
    file = to_enhanced(cut_slices())
    compress_enhanced(file, syntax)
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    write_file(file, tmp_path / "there" / "1.dcm", syntax)
    series = _gate(tmp_path / "there")
    (copy,) = copy_series(series, PATIENT, _imaging())
    (tmp_path / "here" / "1.dcm").write_bytes(copy)
    theirs, mine = map(read_dicom_series, (series, _gate(tmp_path / "here")))
    np.testing.assert_array_equal(mine.hu, theirs.hu)
    np.testing.assert_array_equal(mine.affine, theirs.affine)
