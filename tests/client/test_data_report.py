import json
import re
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from references.admitted_sites import admit_site, synthesize_small_hospital
from references.command_line import Program, refused

from acf_client.cli import main
from acf_client.data import prepare_site
from acf_client.data_report import DataReport, gather_report
from acf_client.data_report_html import render_data_report
from acf_client.data_report_sections import (
    describe_allowed,
    describe_follow_up,
    describe_refusals,
    join_rows,
)
from acf_client.site import Site
from acfnet_core.cohort.contract import ClinicalColumn, shipped_contract
from acfnet_core.cohort.images.dicom_index import DicomIndex, index_folder
from acfnet_core.cohort.images.refusal_remedies import WHAT_TO_DO
from acfnet_core.cohort.prepared.preparation import make_pseudonym
from acfnet_core.cohort.spool import Spool
from acfnet_core.report_page import script_source

LACKS_A_SLICE = "CRLM-SYN-A0002"


def row_of(table: Path, patient_id: str) -> int:
    sheet = openpyxl.load_workbook(table).worksheets[0]
    return next(
        row[0].row for row in sheet.iter_rows() if patient_id in {c.value for c in row}
    )


def lose_slices(images: Path) -> None:
    """Take a slice out of the middle of every series of one patient."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(images.rglob("*.dcm")):
        if LACKS_A_SLICE in str(path):
            folders.setdefault(path.parent, []).append(path)
    for paths in folders.values():
        if len(paths) > 2:
            paths[len(paths) // 2].unlink()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A prepared site of three patients: no scan, a refused one, and scans."""
    folder = tmp_path_factory.mktemp("hospital")
    synthesize_small_hospital(folder)
    lose_slices(folder / "images")
    site = admit_site(folder, shipped_contract("crlm"))
    for _ in prepare_site(site, 1):
        pass
    return site


@pytest.fixture(scope="module")
def report(site: Site) -> DataReport:
    return gather_report(site)


@pytest.fixture(scope="module")
def page(report: DataReport) -> str:
    return render_data_report(report)


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


class Addresses(HTMLParser):
    """Collects every address in a page, and whether all tags are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v or "" for n, v in attrs if n in ("href", "src", "xlink:href")]
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v or "" for n, v in attrs if n in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words_of(page: str) -> str:
    """Return what a reader reads, spaces made one."""
    body = re.sub(r"<(style|script|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_page_is_private_and_lies_in_the_sites_folder(
    client: Program, site: Site
) -> None:
    ended = client.run("data", "report", "--folder", site.folder)
    path = site.folder / "data-report.html"
    assert (ended.status, ended.stdout) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"Wrote {path}" in ended.stderr
    assert "do not send it" in ended.stderr
    assert f"Next: acf-client start --folder {site.folder}" in ended.stderr


def test_json_has_the_counts_and_the_path(
    client: Program, site: Site, tmp_path: Path
) -> None:
    out = tmp_path / "r.html"
    ended = client.run(
        "data", "report", "--folder", site.folder, "--out", out, "--json"
    )
    said = json.loads(ended.stdout)
    row = row_of(site.clinical_table, LACKS_A_SLICE)
    assert said["report"] == str(out)
    assert said["size_bytes"] == out.stat().st_size
    assert (said["num_rows"], said["num_patients"]) == (3, 3)
    assert sum(said["num_patients_by_scans"].values()) == 3
    assert said["refused_rows"] == {"MISSING_SLICES": [row]}


def test_the_headers_of_the_images_are_read_once(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    asked = []

    def index_and_note(root: Path, spool: Spool) -> DicomIndex:
        asked.append(root)
        return index_folder(root, spool)

    monkeypatch.setattr(
        "acfnet_core.cohort.prepared.source_plan.index_folder", index_and_note
    )
    gather_report(site)
    assert asked == [site.images]


def test_the_page_says_on_top_that_it_must_not_be_sent(page: str) -> None:
    assert "Do not send this page." in words_of(page)[:300]


def test_the_page_needs_no_other_file_and_no_network(page: str) -> None:
    found = Addresses(page).found
    assert found
    assert all(address.startswith(("#", "data:image/")) for address in found)
    assert "http://" not in page
    assert "https://" not in page


def test_every_tag_is_closed(page: str) -> None:
    assert Addresses(page).open == []


def test_no_patient_is_named(page: str, site: Site) -> None:
    key = site.load_pseudonym_key()
    for number in range(1, 4):
        patient_id = f"CRLM-SYN-A{number:04}"
        assert patient_id not in page
        assert make_pseudonym(key, patient_id) not in page
    assert str(site.folder) not in page


def test_the_policy_lets_our_script_run_and_no_other(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src 'none'" in policy
    assert f"script-src {script_source(script)}" in policy


def test_every_id_is_there_once_and_every_link_on_the_page_has_its_target(
    page: str,
) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))
    targets = {a[1:] for a in Addresses(page).found if a.startswith("#")}
    assert targets <= set(ids)


def test_every_prepared_scan_has_one_tile_with_its_row(
    page: str, report: DataReport, site: Site
) -> None:
    row = row_of(site.clinical_table, "CRLM-SYN-A0003")
    assert {scan.row_number for scan in report.scans} == {row}
    assert page.count('<svg class="tile"') == len(report.scans) > 0
    assert page.count(f"<b>row {row}</b>") == len(report.scans)


def test_a_refused_row_stands_with_its_code_and_what_to_do(
    page: str, site: Site
) -> None:
    row = row_of(site.clinical_table, LACKS_A_SLICE)
    (line,) = re.findall(r"<tr><th[^>]*><code>MISSING_SLICES.*?</tr>", page)
    assert WHAT_TO_DO["MISSING_SLICES"] in line
    assert line.endswith(f"<td>{row}</td></tr>")


def test_the_same_data_gives_the_same_bytes(report: DataReport, page: str) -> None:
    assert render_data_report(report) == page


def test_every_feature_has_a_figure_and_its_n(page: str) -> None:
    assert len(re.findall(r'<svg class="feature-\d+"', page)) == 13
    assert words_of(page).count("n = 3 of 3") >= 10


def test_an_odd_scan_is_marked_and_counted(report: DataReport) -> None:
    first, *others = report.scans
    odd = replace(first, oddities=("liver 4200 ml",))
    marked = render_data_report(replace(report, scans=(odd, *others)))
    assert 'class="scan odd"' in marked
    assert "liver 4200 ml" in words_of(marked)
    assert f"only the {1 + sum(bool(s.oddities) for s in others)} marked" in marked


def test_an_assumed_time_and_a_mended_series_are_said(report: DataReport) -> None:
    scan = replace(report.scans[0], time_assumed=True, repairs=("GANTRY_TILT",))
    words = words_of(render_data_report(replace(report, scans=(scan,))))
    assert "months, assumed, mended: GANTRY_TILT" in words


def test_codes_that_came_up_on_reading_have_the_rows_of_their_patients(
    report: DataReport,
) -> None:
    late = {"SEG_OFF_GRID": (3, 4, 4), "DECODE_FAILED": (4,)}
    changed = replace(report, refused_on_reading=late)
    lines = {row.code: row for row in describe_refusals(changed)}
    found = {code: (lines[code].num_studies, lines[code].rows) for code in late}
    assert found == {"SEG_OFF_GRID": (3, "3, 4"), "DECODE_FAILED": (1, "4")}
    assert changed.as_json()["refused_on_reading"] == {
        "SEG_OFF_GRID": 3,
        "DECODE_FAILED": 1,
    }


def test_a_mixed_up_meaning_cannot_become_markup(report: DataReport) -> None:
    column = report.contract.columns["age"].model_copy(
        update={"meaning": "<script>alert(1)</script>"}
    )
    columns = {**report.contract.columns, "age": column}
    contract = report.contract.model_copy(update={"columns": columns})
    assert "<script>alert" not in render_data_report(replace(report, contract=contract))


def test_without_an_outcome_there_is_no_curve(report: DataReport) -> None:
    none = replace(report, time_months=np.empty(0), event=np.empty(0, np.bool_))
    assert describe_follow_up(none) is None
    assert "No patient has an outcome." in words_of(render_data_report(none))


def test_the_median_follow_up_is_the_reverse_estimate(report: DataReport) -> None:
    facts = describe_follow_up(
        replace(
            report,
            time_months=np.array([5.0, 10.0, 20.0, 30.0]),
            event=np.array([True, False, False, False]),
        )
    )
    assert facts is not None
    assert facts.median_follow_up_months == 20.0
    assert facts.median_free_months is None
    assert facts.curve.num_at_risk.tolist() == [4, 2, 1]


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((18.0, 110.0), "18 to 110 years"),
        ((0.0, None), "0 or more years"),
        ((None, 40.0), "40 or less years"),
        ((None, None), "any number years"),
    ],
)
def test_an_allowed_range_is_written_with_its_unit(
    bounds: tuple[float | None, float | None], words: str
) -> None:
    column = ClinicalColumn(
        type="number",
        known="before_surgery",
        meaning="x",
        unit="years",
        minimum=bounds[0],
        maximum=bounds[1],
    )
    assert describe_allowed(column) == words


@pytest.mark.parametrize(
    ("rows", "words"),
    [([], ""), ([5], "5"), ([5, 6], "5, 6"), ([2, 3, 4, 9], "2 to 4, 9")],
)
def test_runs_of_rows_are_shortened(rows: list[int], words: str) -> None:
    assert join_rows(rows) == words


@pytest.fixture
def table_site(site: Site, tmp_path: Path) -> Site:
    """The same hospital's table, with a fault, without images or preparation."""
    book = openpyxl.load_workbook(site.clinical_table)
    sheet = book.worksheets[0]
    names = [cell.value for cell in sheet[1]]
    sheet.cell(3, names.index("age") + 1).value = 900
    (tmp_path / "images").mkdir()
    book.save(tmp_path / "clinical.xlsx")
    return admit_site(tmp_path, shipped_contract("crlm"))


def test_before_preparing_the_page_shows_the_table_and_says_what_to_run(
    client: Program, table_site: Site
) -> None:
    ended = client.run("data", "report", "--folder", table_site.folder)
    words = words_of(table_site.data_report_path.read_text(encoding="utf-8"))
    assert "Nothing has been prepared yet. Run acf-client data prepare" in words
    assert "Contact sheet" not in words
    assert "Next: acf-client data prepare" in ended.stderr


def test_faults_of_the_table_are_told_by_row_and_never_by_value(
    client: Program, table_site: Site
) -> None:
    client.run("data", "report", "--folder", table_site.folder)
    words = words_of(table_site.data_report_path.read_text(encoding="utf-8"))
    assert "is above the contract's maximum (row 3)" in words.replace("&#39;", "'")
    assert "900" not in words


def test_a_store_of_another_contract_is_refused(
    client: Program, site: Site, tmp_path: Path
) -> None:
    other = shipped_contract("crlm").with_features(["age"])
    folder = tmp_path / "h"
    folder.mkdir()
    (folder / "clinical.xlsx").write_bytes(site.clinical_table.read_bytes())
    (folder / "images").mkdir()
    second = admit_site(folder, other)
    manifest = (site.prepared_folder / "manifest.json").read_bytes()
    (second.prepared_folder / "manifest.json").write_bytes(manifest)
    ended = client.run("data", "report", "--folder", second.folder)
    refused(ended, "data.contract_mismatch", "data prepare")
