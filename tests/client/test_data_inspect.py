import json
from pathlib import Path

import pytest
from references.command_line import Program, refused
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acf_client.cli import main
from acfnet_core.cohort.images.refusals import GATE_CODES


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder with a series that lacks a slice, a segmentation and a table."""
    folder = tmp_path / "export"
    slices = make_series("CANARY-42")
    write_segmentation(slices, folder / "seg.dcm", {"Liver": liver_box()})
    del slices[6]
    write_series(slices, folder / "ct")
    (folder / "t.csv").write_text("a,b\n1,2\n")
    return folder


def test_any_folder_is_listed_without_a_set_up(client: Program, export: Path) -> None:
    ended = client.run("data", "inspect", export)
    assert (ended.status, ended.stdout) == (0, "")
    assert "CT-1 repairable: CT of P-1, files: 11" in ended.stderr
    assert "DICOM SEG seg.dcm, on CT-1" in ended.stderr
    assert "Table t.csv: 1 rows, 2 columns" in ended.stderr
    assert "Next: acf-client init" in ended.stderr


def test_a_code_stands_beside_its_plain_words(client: Program, export: Path) -> None:
    ended = client.run("data", "inspect", export)
    assert f"MISSING_SLICES: {GATE_CODES['MISSING_SLICES']}" in ended.stderr


def test_json_has_series_segmentations_tables_and_the_rest(
    client: Program, export: Path
) -> None:
    said = json.loads(client.run("data", "inspect", export, "--json").stdout)
    (series,) = said["series"]
    assert (series["verdict"], series["codes"]) == ("repairable", ["MISSING_SLICES"])
    assert (series["shape"], series["spacing_mm"]) == ([11, 32, 30], [5.0, 6.0, 7.0])
    (segmentation,) = said["segmentations"]
    assert (segmentation["file"], segmentation["segments"]) == ("seg.dcm", ["Liver"])
    assert segmentation["voxels"] == [int(liver_box().sum())]
    assert said["tables"] == [{"file": "t.csv", "rows": 1, "columns": 2}]
    assert (said["patients"], said["damaged"], said["other"]) == (1, [], {})


def test_a_repair_is_shown_and_not_done(client: Program, export: Path) -> None:
    ended = client.run("data", "inspect", export, "--repair", "--json")
    (series,) = json.loads(ended.stdout)["series"]
    assert (series["verdict"], series["codes"]) == ("accepted", [])
    assert (series["shape"], series["files"]) == ([12, 32, 30], 11)
    assert series["repaired"] == ["MISSING_SLICES"]
    assert "  mended MISSING_SLICES: " in ended.stderr
    assert len(list(export.rglob("*.dcm"))) == 12


def test_without_a_repair_none_is_told(client: Program, export: Path) -> None:
    said = json.loads(client.run("data", "inspect", export, "--json").stdout)
    assert [series["repaired"] for series in said["series"]] == [[]]


def test_no_patient_is_named(client: Program, export: Path) -> None:
    ended = client.run("data", "inspect", export, "--json")
    assert "CANARY" not in ended.stdout + ended.stderr


def test_nothing_is_written(client: Program, export: Path) -> None:
    before = sorted(export.parent.rglob("*"))
    client.run("data", "inspect", export)
    assert sorted(export.parent.rglob("*")) == before


def test_a_name_cannot_steer_the_terminal(client: Program, tmp_path: Path) -> None:
    (tmp_path / "[red]\x1b[2J.csv").write_text("a\n1\n")
    ended = client.run("data", "inspect", tmp_path)
    assert r"Table [red]\x1b[2J.csv" in ended.stderr


def test_a_folder_that_does_not_exist_is_named(client: Program, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    ended = client.run("data", "inspect", missing)
    refused(ended, "data.path_not_found", str(missing))
