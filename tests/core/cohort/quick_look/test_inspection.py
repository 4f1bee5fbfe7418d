import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from references.ct_series import (
    PATIENT_NAME,
    SHAPE,
    SPACING_MM,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.shared_data import SHARED_DATA

from acfnet_core.cohort.images.refusals import GATE_CODES
from acfnet_core.cohort.quick_look.folder_findings import (
    REPAIRS,
    FolderInspection,
    SegmentationFinding,
    SeriesFinding,
)
from acfnet_core.cohort.quick_look.inspection import inspect_folder
from acfnet_core.errors import DataError


def _real(name: str) -> FolderInspection:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip("the public data is not beside this checkout")
    return inspect_folder(folder)


def _one_series(slices: list[Dataset], folder: Path) -> SeriesFinding:
    write_series(slices, folder)
    (series,) = inspect_folder(folder).series
    return series


def _one_segmentation(folder: Path) -> SegmentationFinding:
    (segmentation,) = inspect_folder(folder).segmentations
    return segmentation


def test_a_faultless_series_is_accepted_with_its_shape_and_spacing(
    tmp_path: Path,
) -> None:
    series = _one_series(make_series(), tmp_path)
    assert (series.verdict, series.codes) == ("accepted", ())
    assert (series.files, series.shape) == (SHAPE[0], SHAPE)
    assert series.spacing_mm == SPACING_MM
    assert series.transfer_syntax == ("Explicit VR Little Endian",)


def test_two_slices_far_apart_are_no_fault_without_a_contract(tmp_path: Path) -> None:
    slices = make_series()[::6]
    assert _one_series(slices, tmp_path).verdict == "accepted"


def _tilt(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, float(y) + index * 1.34, z]


def _lose_one(slices: list[Dataset]) -> None:
    del slices[6]


def _empty_uid(slices: list[Dataset]) -> None:
    for one in slices:
        one.StudyInstanceUID = one.SeriesInstanceUID = ""


def _no_patient(slices: list[Dataset]) -> None:
    for one in slices:
        one.PatientID = ""


REPAIRABLE: dict[str, Callable[[list[Dataset]], None]] = {
    "GANTRY_TILT": _tilt,
    "MISSING_SLICES": _lose_one,
    "EMPTY_UID": _empty_uid,
    "NO_PATIENT_ID": _no_patient,
}


@pytest.mark.parametrize("code", REPAIRABLE)
def test_a_fault_that_can_be_mended_is_told_with_the_spacing(
    code: str, tmp_path: Path
) -> None:
    slices = make_series()
    REPAIRABLE[code](slices)
    write_series(slices, tmp_path / "P-007")
    (series,) = inspect_folder(tmp_path).series
    assert (series.verdict, series.codes) == ("repairable", (code,))
    assert series.spacing_mm == SPACING_MM


@pytest.mark.parametrize("code", REPAIRABLE)
def test_a_repair_shows_the_series_as_it_would_be(code: str, tmp_path: Path) -> None:
    slices = make_series()
    REPAIRABLE[code](slices)
    write_series(slices, tmp_path / "P-007")
    (series,) = inspect_folder(tmp_path, is_repaired=True).series
    assert (series.verdict, series.codes) == ("accepted", ())
    assert (series.repaired, series.patient) == ((code,), "P-1")
    assert (series.shape, series.spacing_mm) == (SHAPE, SPACING_MM)


def test_without_a_folder_nobody_can_be_named(tmp_path: Path) -> None:
    slices = make_series()
    _no_patient(slices)
    assert _one_series(slices, tmp_path).verdict == "refused"


def test_every_repair_is_of_a_code_of_the_gate() -> None:
    assert REPAIRS.keys() == REPAIRABLE.keys()
    assert REPAIRS.keys() <= GATE_CODES.keys()


def test_a_slice_shifted_sideways_is_no_tilt_that_can_be_mended(tmp_path: Path) -> None:
    slices = make_series()
    x, y, z = slices[5].ImagePositionPatient
    slices[5].ImagePositionPatient = [float(x) + 3, y, z]
    series = _one_series(slices, tmp_path)
    assert (series.verdict, series.codes) == ("refused", ("GANTRY_TILT",))


def test_a_fault_beside_one_that_can_be_mended_refuses(tmp_path: Path) -> None:
    slices = make_series()
    _lose_one(slices)
    slices[2].LossyImageCompression = "01"
    assert _one_series(slices, tmp_path).verdict == "refused"


def test_slices_of_two_sizes_have_no_shape(tmp_path: Path) -> None:
    slices = make_series()
    slices[2].Rows, slices[2].Columns = 16, 16
    slices[2].PixelData = bytes(2 * 16 * 16)
    series = _one_series(slices, tmp_path)
    assert (series.shape, series.verdict) == (None, "refused")


def test_patients_and_series_are_numbered_and_not_named(tmp_path: Path) -> None:
    for number, patient in enumerate(("CANARY-1", "CANARY-2", "CANARY-1")):
        write_series(make_series(patient, number=number), tmp_path / str(number))
    found = inspect_folder(tmp_path)
    assert [one.series for one in found.series] == ["CT-1", "CT-2", "CT-3"]
    assert [one.patient for one in found.series] == ["P-1", "P-2", "P-1"]
    assert found.patients == 2
    said = "".join(found.write_json())
    header = make_series("CANARY-1")[0]
    planted = ("CANARY", PATIENT_NAME, header.StudyInstanceUID, header.SOPInstanceUID)
    assert [word for word in planted if word in said] == []


def test_segments_that_overlap_keep_all_their_voxels(tmp_path: Path) -> None:
    slices = make_series()
    write_series(slices, tmp_path / "ct")
    tumour = np.zeros_like(liver_box())
    tumour[4:6, 10:12, 8:10] = 1
    masks = {"Liver": liver_box(), "Tumor_1": tumour}
    write_segmentation(slices, tmp_path / "seg" / "a.dcm", masks)
    found = _one_segmentation(tmp_path)
    assert (found.file, found.format) == ("seg/a.dcm", "DICOM SEG")
    assert found.segments == ("Liver", "Tumor_1")
    assert found.voxels == (int(liver_box().sum()), 8)


def test_a_fractional_segment_is_counted_from_a_half_on(tmp_path: Path) -> None:
    masks = {"Liver": liver_box()}
    write_segmentation(make_series(), tmp_path / "a.dcm", masks, kind="FRACTIONAL")
    assert _one_segmentation(tmp_path).voxels == (int(liver_box().sum()),)


def test_a_segmentation_is_counted_with_the_series_that_it_names(
    tmp_path: Path,
) -> None:
    slices = make_series(number=1)
    write_series(make_series(number=0), tmp_path / "a")
    write_series(slices, tmp_path / "b")
    write_segmentation(slices, tmp_path / "seg.dcm", {"Liver": liver_box()})
    found = inspect_folder(tmp_path)
    assert found.segmentations[0].series == "CT-2"
    assert [one.segmentations for one in found.series] == [0, 1]


def test_an_rtstruct_is_named_with_its_structures(tmp_path: Path) -> None:
    one = make_series(num_slices=1)[0]
    one.Modality = "RTSTRUCT"
    roi = Dataset()
    roi.ROIName = "Liver"
    one.StructureSetROISequence = [roi]
    write_series([one], tmp_path)
    found = _one_segmentation(tmp_path)
    assert (found.format, found.segments) == ("RTSTRUCT", ("Liver",))
    assert found.voxels is None


def test_tables_have_rows_and_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;age\n1;50\n2;60\n3;70\n")
    (table,) = inspect_folder(tmp_path).tables
    assert (table.file, table.rows, table.columns) == ("t.csv", 3, 2)


RUBBISH = {
    "empty.dcm": b"",
    "text.dcm": b"not a scan",
    "header.dcm": bytes(128) + b"DICM" + b"\xff" * 40,
    "table.xlsx": b"not a workbook",
    "mask.nii.gz": b"\x1f\x8b\x08 broken",
}


@pytest.mark.parametrize("name", RUBBISH)
def test_a_damaged_file_is_named_and_costs_itself_alone(
    name: str, tmp_path: Path
) -> None:
    write_series(make_series(), tmp_path / "ct")
    (tmp_path / name).write_bytes(RUBBISH[name])
    found = inspect_folder(tmp_path)
    assert [damaged.file for damaged in found.damaged] == [name]
    assert [series.verdict for series in found.series] == ["accepted"]


def test_a_series_beside_an_unreadable_header_may_lack_a_slice(tmp_path: Path) -> None:
    write_series(make_series(), tmp_path)
    (tmp_path / "broken.dcm").write_bytes(RUBBISH["header.dcm"])
    (series,) = inspect_folder(tmp_path).series
    assert (series.verdict, series.codes) == ("refused", ("BROKEN_NEIGHBOUR",))


def test_a_segmentation_that_breaks_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    write_segmentation(make_series(), path, {"Liver": liver_box()})
    path.write_bytes(path.read_bytes()[:-200])
    found = inspect_folder(tmp_path)
    assert found.segmentations == ()
    assert [damaged.file for damaged in found.damaged] == ["a.dcm"]


def test_other_files_are_counted_by_kind(tmp_path: Path) -> None:
    one = make_series(num_slices=1)[0]
    one.Modality = "MR"
    write_series([one], tmp_path)
    for name in ("DICOMDIR", "a.txt", "b.txt", "c", "d.30000022"):
        (tmp_path / name).write_text("nothing to see")
    other = inspect_folder(tmp_path).other
    assert other == {"dicom_mr": 1, "dicomdir": 1, "file_txt": 2, "file_unknown": 2}


def test_a_link_out_of_the_folder_is_counted_and_not_followed(tmp_path: Path) -> None:
    (path,) = write_series(make_series(num_slices=1), tmp_path / "elsewhere")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file.dcm").symlink_to(path)
    (inside / "folder").symlink_to(path.parent, target_is_directory=True)
    found = inspect_folder(inside)
    assert (found.series, found.other) == ((), {"link_outward": 2})


def test_nothing_that_was_found_is_told_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,"name\nCANARY')
    (tmp_path / "CT.dcm").write_text("CANARY")
    assert "CANARY" not in "".join(inspect_folder(tmp_path).write_json())


def test_json_has_all_that_was_found(tmp_path: Path) -> None:
    write_series(make_series(), tmp_path / "one")
    write_series(make_series()[1:4], tmp_path / "two")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + bytes(40))
    found = inspect_folder(tmp_path)
    assert all((found.series, found.tables, found.damaged))
    expected = {
        **vars(found),
        **{
            name: [asdict(one) for one in getattr(found, name)]
            for name in ("series", "segmentations", "tables", "damaged")
        },
        "meanings": found.meanings,
    }
    told = json.loads("".join(found.write_json()))
    assert told == json.loads(json.dumps(expected))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: there is no such folder") as caught:
        inspect_folder(tmp_path / "absent")
    assert caught.value.code == "data.path_not_found"


@pytest.mark.parametrize("seed", range(25))
def test_changed_bytes_never_end_the_look(seed: int, tmp_path: Path) -> None:
    slices = make_series(num_slices=3)
    paths = write_series(slices, tmp_path / "ct")
    mask = np.ones((3, *SHAPE[1:]), np.uint8)
    paths.append(write_segmentation(slices, tmp_path / "s.dcm", {"Liver": mask}))
    draw = random.Random(seed)  # noqa: S311
    for path in paths:
        content = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 5, 20))):
            content[draw.randrange(132, 2500)] = draw.randrange(256)
        path.write_bytes(content)
    assert isinstance(inspect_folder(tmp_path), FolderInspection)


def test_every_code_of_the_look_comes_with_its_meaning(tmp_path: Path) -> None:
    slices = make_series()
    _lose_one(slices)
    write_series(slices, tmp_path)
    meaning = GATE_CODES["MISSING_SLICES"]
    assert inspect_folder(tmp_path).meanings == {"MISSING_SLICES": meaning}


def test_real_slices_with_empty_uids_can_be_mended() -> None:
    (series,) = _real("ct-totalsegmentator").series
    assert (series.verdict, series.files) == ("repairable", 20)
    assert set(series.codes) == {"EMPTY_UID", "NO_PATIENT_ID"}
    assert series.shape == (20, 512, 512)
    assert series.spacing_mm == pytest.approx((2.0, 0.976562, 0.976562), abs=1e-6)
    assert series.transfer_syntax[0].startswith("JPEG 2000")


def test_a_real_nifti_mask_has_its_labels_counted() -> None:
    (mask,) = _real("ct-totalsegmentator").segmentations
    voxels = dict(zip(mask.segments, mask.voxels or (), strict=True))
    assert (voxels["5"], len(voxels)) == (366_708, 31)


def test_real_segmentations_have_their_known_voxels() -> None:
    found = _real("ct-dcmqi")
    voxels = {one.file: one.voxels for one in found.segmentations}
    assert voxels == {
        "liver.dcm": (107_098,),
        "partial_overlaps.dcm": (9602, 11888, 10743, 6693, 4713),
    }
    assert [series.verdict for series in found.series] == ["accepted"]


def test_real_tables_have_their_rows() -> None:
    sizes = {table.file: (table.rows, table.columns) for table in _real("crlm").tables}
    assert sizes["clinical.csv"] == (197, 36)


def test_a_file_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, *_) = write_series(make_series(), tmp_path)
    opened = Path.open

    def refuse(self: Path, mode: str = "r") -> object:
        if self.name == path.name:
            raise PermissionError
        return opened(self, mode)

    # The system's own refusal does not hold for root, as whom tests may run.
    monkeypatch.setattr(Path, "open", refuse)
    found = inspect_folder(tmp_path)
    assert [damaged.problem for damaged in found.damaged] == ["cannot be opened"]
    assert "BROKEN_NEIGHBOUR" in found.series[0].codes
