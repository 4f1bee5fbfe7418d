import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from references.command_line import Program, refused

from acf_client.cli import main
from acf_client.data import data_sources
from acf_client.enrolment import EnrolmentState
from acf_client.settings import settings_text
from acf_client.site import Site, initialise, open_site
from acf_client.trainer import load_trainer
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.table.mapping import AS_AGREED, TableDialect
from acfnet_core.errors import ConfigError, DataError

CONTRACT = shipped_contract("generic").without_imaging()
HEADER = (
    "patient_id;age;sex;num_metastases;max_metastasis_cm;carcinoembryonic_antigen;"
    "chemo_before_resection;time_months;event"
)
DIALECT = """\
decimal_mark = ","
delimiter = ";"
encoding = "latin-1"
sheet = "Daten"
missing_codes = ["k.A."]
percent = ["num_metastases"]
date_formats = { resection_date = "%d.%m.%Y" }
unit_factors = { max_metastasis_cm = 0.1 }
[data.table.codes.sex]
w = "f"
"ü" = "m"
"""


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    table = tmp_path / "clinical.csv"
    rows = [f"CANARY{n};60;m;1;2,5;3;0;12;1" for n in range(12)]
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    site = initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    state = EnrolmentState(
        consortium="crlm",
        site="hospital-a",
        address="fl.example.org:8443",
        root_fingerprint="ab12",
        admitted=datetime(2026, 3, 1, tzinfo=UTC),
    )
    site.enrolment_path.write_text(state.model_dump_json())
    site.contract_path.write_text(contract_to_toml(CONTRACT))
    return site


def _open_with(site: Site, lines: str) -> Site:
    path = site.folder / "site.toml"
    section = "[data.table]\n"
    path.write_text(path.read_text().replace(section, f"{section}{lines}\n", 1))
    return open_site(site.folder)


def test_a_new_site_writes_its_table_as_agreed(site: Site) -> None:
    assert data_sources(open_site(site.folder)).mapping == AS_AGREED


def test_the_sites_writing_reaches_the_reading_of_the_table(site: Site) -> None:
    dialect = data_sources(_open_with(site, DIALECT)).mapping.dialect
    assert dialect == TableDialect(
        decimal_mark=",",
        delimiter=";",
        encoding="latin-1",
        sheet="Daten",
        missing_codes=("k.A.",),
        percent=("num_metastases",),
        date_formats={"resection_date": "%d.%m.%Y"},
        unit_factors={"max_metastasis_cm": 0.1},
        codes={"sex": {"w": "f", "ü": "m"}},
    )


def test_the_settings_are_written_as_they_were_read(site: Site) -> None:
    opened = _open_with(site, DIALECT)
    (site.folder / "site.toml").write_text(settings_text(opened.config))
    assert open_site(site.folder).config == opened.config


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('decimal_mark = ";"', "data.table.decimal_mark"),
        ('date_formats = { a = "dd.mm.yyyy" }', "data.table.date_formats.a"),
        ("unit_factors = { a = 0.0 }", "data.table.unit_factors.a"),
        ('encoding = "guess"', "data.table.encoding"),
        ("sheet = 0", "data.table.sheet"),
        ("codes = { a = {} }", "data.table.codes.a"),
    ],
)
def test_a_setting_that_is_none_is_named(site: Site, line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _open_with(site, line)


def test_the_check_says_which_setting_is_missing(client: Program, site: Site) -> None:
    ended = client.run("data", "check", "--folder", site.folder)
    refused(ended, "data.table_invalid", "decimal_mark")


def test_faulty_values_go_into_a_private_file_and_nowhere_else(
    client: Program, site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "values.csv"
    words = ("data", "check", "--folder", site.folder, "--values", target, "--json")
    ended = client.run(*words)
    assert "2,max_metastasis_cm,decimal_comma,fault" in target.read_text()
    assert '"2,5"' in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "2,5" not in ended.stdout + ended.stderr
    assert "CANARY" not in ended.stdout + ended.stderr


def test_data_prepared_under_another_mapping_starts_nothing(
    client: Program, site: Site
) -> None:
    _open_with(site, 'decimal_mark = ","')
    assert client.run("data", "prepare", "--folder", site.folder).status == 0
    changed = _open_with(site, 'missing_codes = ["k.A."]')
    with pytest.raises(DataError) as caught:
        load_trainer(changed)
    assert caught.value.code == "data.reading_changed"
    ended = client.run("start", "--folder", site.folder)
    refused(ended, "data.reading_changed", "prepared")
