import logging
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from references.ct_series import SHAPE, make_series, write_series

from acfnet_core.cohort.images.dicom_index import index_folder, quiet_dicom
from acfnet_core.errors import DataError


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    paths = write_series(make_series(), tmp_path / "elsewhere")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file.dcm").symlink_to(paths[0])
    (inside / "folder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    index = index_folder(inside)
    assert index.ct_series == ()


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = write_series(make_series(num_slices=1), tmp_path / "a")[0]
    (tmp_path / "link.dcm").symlink_to(path)
    (series,) = index_folder(tmp_path).ct_series
    assert len(series) == 2


def test_files_that_are_no_dicom_are_ignored(tmp_path: Path) -> None:
    write_series(make_series(), tmp_path)
    (tmp_path / "notes.txt").write_text("nothing to see")
    (tmp_path / "empty.dcm").touch()
    index = index_folder(tmp_path)
    assert (len(index.ct_series[0]), index.num_ignored) == (SHAPE[0], 2)


def test_a_dicomdir_is_not_read(tmp_path: Path) -> None:
    path = write_series(make_series(num_slices=1), tmp_path)[0]
    path.rename(tmp_path / "DICOMDIR")
    assert index_folder(tmp_path).ct_series == ()


def test_a_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    one = make_series(num_slices=1)[0]
    write_series([one], tmp_path)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    one.save_as(tmp_path / "000-0.dcm", enforce_file_format=True)
    index = index_folder(tmp_path)
    assert (index.ct_series, index.num_broken) == ((), 1)


def test_the_order_of_series_does_not_depend_on_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for number, name in enumerate(("x", "y") if folder == "a" else ("y", "x")):
            write_series(make_series(number=number), tmp_path / folder / name)
    first, second = index_folder(tmp_path / "a"), index_folder(tmp_path / "b")
    assert [s[0].series_uid for s in first.ct_series] == [
        s[0].series_uid for s in second.ct_series
    ]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder") as caught:
        index_folder(tmp_path / "absent")
    assert caught.value.code == "data.path_not_found"


def test_a_bad_header_value_reaches_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_series(make_series(num_slices=3), tmp_path)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"19920606", b"CANARY77"))
    with caplog.at_level(logging.DEBUG):
        index_folder(tmp_path)
    assert "CANARY77" not in caplog.text


def test_quiet_dicom_leaves_the_loggers_as_they_were() -> None:
    logger = logging.getLogger("pydicom")
    before = (logger.level, logger.propagate)
    with quiet_dicom():
        pass
    assert (logger.level, logger.propagate) == before


def test_a_header_that_says_too_much_is_broken(tmp_path: Path) -> None:
    (one,) = make_series(num_slices=1)
    one.Modality = "SEG"
    one.SegmentSequence = [Dataset() for _ in range(20)]
    with quiet_dicom():
        for item in one.SegmentSequence:
            item.SegmentLabel = "x" * 60_000
        write_series([one], tmp_path)
    index = index_folder(tmp_path)
    assert (index.segmentations, index.num_broken) == ((), 1)
