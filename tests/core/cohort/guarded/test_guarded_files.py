import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from references import hostile_files as hostile
from references.ct_series import (
    SHAPE,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acfnet_core.cohort.check import check_cohort
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images import dicom_index
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.masks.segmentation import segmentations_of
from acfnet_core.cohort.prepared import preparation
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PreparationEvent,
    SourcesRead,
    StudyRefused,
)
from acfnet_core.cohort.prepared.scan_job import ScanJob
from acfnet_core.cohort.prepared.scan_plan import PlannedScan
from acfnet_core.cohort.quick_look.folder_findings import FolderInspection
from acfnet_core.cohort.quick_look.inspection import inspect_folder
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.table_file import read_cells
from acfnet_core.errors import DataError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
IS_LINUX = os.uname().sysname == "Linux"


def _write_site(folder: Path) -> CohortSources:
    """Write a patient with scans of December and of June."""
    for date in ("19911206", "19920606"):
        slices = make_series("P-1", study_date=date)
        write_series(slices, folder / "images" / date / "ct")
        seg = folder / "images" / date / "seg" / "1.dcm"
        write_segmentation(slices, seg, {"Liver": liver_box()})
    values = dict.fromkeys(CRLM.features, "1") | {
        "age": "50",
        "body_mass_index": "25",
        "Patient-ID": "P-1",
        "months_to_DFS_progression": "10",
        "vital_status_DFS": "1",
        "clinrisk_score": "2",
        "date_of_liver_resection": "1992-06-20",
    }
    table = folder / "clinical.csv"
    table.write_text(f"{','.join(values)}\n{','.join(values.values())}\n")
    return CohortSources(clinical_table=table, images_folder=folder / "images")


def _prepare(
    sources: CohortSources, store: Path, num_workers: int = 1
) -> list[PreparationEvent]:
    return list(
        prepare_cohort(CRLM, sources, store, pseudonym_key=KEY, num_workers=num_workers)
    )


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_study_that_crashes_its_reader_costs_itself_and_is_named(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = _write_site(tmp_path)
    monkeypatch.setattr(preparation, "run_job", hostile.run_job_unless_early)
    events = _prepare(sources, tmp_path / "store", num_workers)
    assert StudyRefused(row_number=2, codes=("READER_DIED",)) in events
    last = events[-1]
    assert isinstance(last, CohortFinished)
    assert (last.num_scans, last.refused) == (1, {"READER_DIED": 1})


def test_a_header_that_crashes_its_reader_is_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(make_series("P-1"), tmp_path / "a")
    write_series(make_series("P-2"), tmp_path / "b")
    (tmp_path / "b" / hostile.CRASHING_NAME).write_bytes(b"x")
    monkeypatch.setattr(
        dicom_index, "headers_if_dicom", hostile.headers_unless_crashing
    )
    index = index_folder(tmp_path)
    assert index.num_broken == 1
    assert index.broken_folders == {tmp_path / "b"}
    assert [len(series) for series in index.ct_series] == [SHAPE[0]] * 2


def test_a_slice_that_vanished_costs_its_study(tmp_path: Path) -> None:
    sources = _write_site(tmp_path)
    events = prepare_cohort(CRLM, sources, tmp_path / "store", pseudonym_key=KEY)
    assert isinstance(next(events), SourcesRead)
    next((tmp_path / "images" / "19911206" / "ct").iterdir()).unlink()
    last = list(events)[-1]
    assert isinstance(last, CohortFinished)
    assert (last.num_scans, last.refused) == (1, {"DECODE_FAILED": 1})


def test_a_slice_that_was_exchanged_costs_its_study(tmp_path: Path) -> None:
    sources = _write_site(tmp_path)
    events = prepare_cohort(CRLM, sources, tmp_path / "store", pseudonym_key=KEY)
    next(events)
    first, second, *_ = sorted((tmp_path / "images" / "19911206" / "ct").iterdir())
    first.write_bytes(second.read_bytes())
    last = list(events)[-1]
    assert isinstance(last, CohortFinished)
    assert (last.num_scans, last.refused) == (1, {"DECODE_FAILED": 1})


def _read_scan(folder: Path) -> tuple[str, ...]:
    """Index, gate and prepare a series; return what refused it."""
    index = index_folder(folder)
    (gated,) = gate_index(index, CRLM.imaging) if CRLM.imaging else ()
    if not gated.is_accepted:
        return gated.codes
    scan = PlannedScan(
        series=gated,
        segmentation=segmentations_of(index, {})[0],
        time_months=0.0,
        time_assumed=False,
    )
    job = ScanJob(
        store_folder=folder.parent / "store",
        pseudonym="x" * 32,
        scans=(scan,),
        imaging=CRLM.imaging,
    )
    (result,) = preparation._run_jobs([job], 1, b"k" * 32)
    return result.refused


def test_a_code_stream_of_absurd_size_costs_its_study(tmp_path: Path) -> None:
    slices = make_series()
    for one in slices:
        one.Rows = one.Columns = 64
        one.PixelData = bytes(2 * 64 * 64)
    folder = tmp_path / "images"
    paths = write_series(slices, folder)
    liver = np.zeros((len(slices), 64, 64), np.uint8)
    liver[3:9, 8:24, 8:24] = 1
    write_segmentation(slices, folder / "seg" / "1.dcm", {"Liver": liver})
    assert _read_scan(folder) == ()
    hostile.swell_jpeg_2000(slices[5], paths[5])
    (code,) = _read_scan(folder)
    assert code in {"DECODE_FAILED", "READER_DIED", "READER_LIMIT"}


def _claim(slices: list[Dataset], **claims: object) -> None:
    for one in slices:
        for keyword, value in claims.items():
            setattr(one, keyword, value)


@pytest.mark.parametrize(
    "claims",
    [
        {"Rows": 65_535, "Columns": 65_535},
        {"NumberOfFrames": 2**31 - 1},
        {"BitsAllocated": 65_528},
        {"SamplesPerPixel": 65_535},
    ],
)
def test_absurd_dimensions_are_refused_from_the_header(
    claims: dict[str, object], tmp_path: Path
) -> None:
    slices = make_series()
    _claim(slices, **claims)
    write_series(slices, tmp_path)
    (series,) = inspect_folder(tmp_path).series
    assert series.verdict == "refused"


@pytest.mark.parametrize("depth", [50, 20_000])
def test_nested_sequences_end_no_look(depth: int, tmp_path: Path) -> None:
    write_series(make_series("P-1"), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (one,) = make_series("P-2", num_slices=1)
    write_series([one], tmp_path / "c")
    hostile.nest_sequences(one, tmp_path / "b" / "1.dcm", depth=depth)
    index = index_folder(tmp_path)
    assert len(index.ct_series[0]) == SHAPE[0] or len(index.ct_series[1]) == SHAPE[0]
    found = inspect_folder(tmp_path)
    assert "accepted" in [series.verdict for series in found.series]


def test_a_segmentation_that_claims_many_frames_is_damaged(tmp_path: Path) -> None:
    slices = make_series()
    write_series(slices, tmp_path / "ct")

    def claim(file: Dataset) -> None:
        file.NumberOfFrames = 2**31 - 1

    seg = tmp_path / "seg" / "1.dcm"
    write_segmentation(slices, seg, {"Liver": liver_box()}, change=claim)
    found = inspect_folder(tmp_path)
    assert [damaged.file for damaged in found.damaged] == ["seg/1.dcm"]
    assert [series.verdict for series in found.series] == ["accepted"]


@pytest.mark.parametrize("sides", [(32_767, 32_767, 32_767), (1024, 1024, 1000)])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_nifti_that_promises_too_much_is_damaged(
    sides: tuple[int, int, int], ending: str, tmp_path: Path
) -> None:
    path = hostile.write_nifti_header(tmp_path / "a.nii", sides)
    if ending == "nii.gz":
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    found = inspect_folder(tmp_path)
    assert [damaged.file for damaged in found.damaged] == [f"a.{ending}"]


def test_a_gzip_bomb_is_not_unpacked_beyond_its_volume(tmp_path: Path) -> None:
    path = hostile.write_nifti_header(tmp_path / "a.nii", (2, 2, 2))
    bomb = path.read_bytes() + bytes(50_000_000)
    path.unlink()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bomb, compresslevel=1))
    found = inspect_folder(tmp_path)
    assert [one.voxels for one in found.segmentations] == [()]


def _why_unreadable(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_cells(path)
    assert caught.value.code == "data.table_unreadable"
    return caught.value.message


@pytest.mark.skipif(not IS_LINUX, reason="Linux alone limits memory")
def test_a_cell_in_the_last_corner_asks_for_no_dense_table(tmp_path: Path) -> None:
    message = _why_unreadable(hostile.write_far_cell(tmp_path / "a.xlsx"))
    assert "reading it" in message


def test_a_line_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a" + b",a" * 2_000_000 + b"\n")
    assert "2000001 columns" in _why_unreadable(path)


def test_a_cell_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n" + b"x" * 100_000_000 + b"\n")
    assert "quotes or its rows" in _why_unreadable(path)


def test_a_table_that_crashes_its_reader_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    monkeypatch.setattr(
        "acfnet_core.cohort.table.table_file._read_table", hostile.segfault
    )
    assert "crashed the program" in _why_unreadable(path)


def _write_crowd(folder: Path) -> None:
    """Write a series among things that are no files, or lead elsewhere."""
    write_series(make_series(), folder / "ct")
    os.mkfifo(folder / "ct" / "pipe.dcm")
    (folder / "ct" / "itself.dcm").symlink_to("itself.dcm")
    (folder / "ct" / "zero.dcm").symlink_to("/dev/zero")
    (folder / "ct" / "secret.dcm").symlink_to("/etc/passwd")
    (folder / "ct" / "up").symlink_to("..", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)


def test_pipes_devices_and_circles_of_links_stop_no_index(tmp_path: Path) -> None:
    _write_crowd(tmp_path)
    index = index_folder(tmp_path)
    assert [len(series) for series in index.ct_series] == [SHAPE[0]]
    assert index.num_broken == 0


def test_pipes_devices_and_circles_of_links_stop_no_look(tmp_path: Path) -> None:
    _write_crowd(tmp_path)
    found = inspect_folder(tmp_path)
    assert [series.verdict for series in found.series] == ["accepted"]
    assert found.other["special_file"] == 1


def test_a_folder_that_is_closed_stops_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(make_series(), tmp_path / "open")
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def refuse(self: Path) -> object:
        if self.name == "closed":
            raise PermissionError
        return listed(self)

    # The system's own refusal does not hold for root, as whom tests may run.
    monkeypatch.setattr(Path, "iterdir", refuse)
    index = index_folder(tmp_path)
    assert (len(index.ct_series), index.num_broken) == (1, 1)
    assert index.broken_folders == {tmp_path / "closed"}


def test_a_dicomdir_leads_nowhere(tmp_path: Path) -> None:
    outside = write_series(make_series("P-9"), tmp_path / "outside")
    inside = tmp_path / "inside"
    write_series(make_series("P-1"), inside)
    content = outside[0].read_bytes().replace(b"P-9 ", b"..\\.")
    (inside / "DICOMDIR").write_bytes(content)
    assert [len(series) for series in index_folder(inside).ct_series] == [SHAPE[0]]


NAMES = [b"a\nb.dcm", b"\x1b[2J\x1b[31m.dcm", b"\xff\xfe.dcm", b"-rf $(true).dcm"]


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_of_any_name_is_read(name: bytes, tmp_path: Path) -> None:
    paths = write_series(make_series(), tmp_path)
    paths[3].rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    index = index_folder(tmp_path)
    assert [len(series) for series in index.ct_series] == [SHAPE[0]]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_writes_on_no_terminal(name: bytes, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"no DICOM")
    found: FolderInspection = inspect_folder(tmp_path)
    (damaged,) = found.damaged
    assert damaged.file.isprintable()
    json.loads("".join(found.write_json()).encode())


def test_the_check_of_a_hostile_folder_has_an_end(tmp_path: Path) -> None:
    sources = _write_site(tmp_path)
    _write_crowd(tmp_path / "images")
    images = check_cohort(CRLM, sources).images
    assert images is not None
    assert images.num_scans == 2
