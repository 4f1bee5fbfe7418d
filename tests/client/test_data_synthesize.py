import json
import tomllib
from pathlib import Path

import pytest
from references.command_line import Program
from references.synthetic_hospitals import quick_sites, write_hospital

from acf_client.cli import main
from acf_client.data import data_sources
from acf_client.settings import SiteConfig
from acf_client.site import initialise, open_site
from acfnet_core.cohort.check import check_cohort
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.synthetic.answer_key import AnswerKey, differences_from_check
from acfnet_core.cohort.synthetic.hospital import plan_hospital
from acfnet_core.cohort.synthetic.site_settings import SITE_FOLDER, settings_of
from acfnet_core.cohort.synthetic.sites import SyntheticSite
from acfnet_core.cohort.synthetic.table_forms import table_form

SITES: dict[str, SyntheticSite] = {site.table: site for site in quick_sites(5)}


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


@pytest.mark.parametrize("table", SITES)
def test_settings_of_a_hospital_are_those_that_the_program_reads(table: str) -> None:
    site = SITES[table]
    content = json.dumps(tomllib.loads(settings_of(site)))
    config = SiteConfig.model_validate_json(content)
    mapping = table_form(site.table).mapping
    assert config.data.columns == mapping.column_names
    assert config.data.table == mapping.dialect
    assert bool(config.data.nifti_labels) == (site.form.masks == "NIfTI")


def test_the_settings_in_their_place_find_the_answer_key(tmp_path: Path) -> None:
    hospital = write_hospital(plan_hospital(SITES["french"], seed=6), tmp_path)
    site_folder = tmp_path / SITE_FOLDER
    initialise(
        site_folder,
        clinical_table=hospital.sources.clinical_table,
        images=hospital.sources.images_folder,
        column_names={},
    )
    (site_folder / "site.toml").write_bytes((tmp_path / "site.toml").read_bytes())
    report = check_cohort(
        shipped_contract("crlm"), data_sources(open_site(site_folder))
    )
    key = AnswerKey.model_validate_json((tmp_path / "answer-key.json").read_text())
    assert not differences_from_check(key, report)


def test_a_hospital_is_made_up_and_told(client: Program, tmp_path: Path) -> None:
    options = ("--sites", 1, "--patients", 1, "--workers", 1, "--no-dialects")
    ended = client.run("data", "synthesize", tmp_path / "trial", *options, "--json")
    assert ended.status == 0
    (told,) = json.loads(ended.stdout)["sites"]
    folder = Path(told.pop("folder"))
    assert told == {
        "site": "hospital-a",
        "num_patients": 1,
        "table": "public",
        "masks": "DICOM SEG",
        "coding": "plain",
        "num_image_defects": 1,
        "num_table_defects": 0,
    }
    assert (folder / "answer-key.json").is_file()
    assert f"Next: acf-client data inspect {folder}" in ended.stderr


def test_fewer_patients_than_sites_are_refused(client: Program, tmp_path: Path) -> None:
    ended = client.run("data", "synthesize", tmp_path, "--sites", 3, "--patients", 2)
    assert "--patients 2 is fewer than --sites 3" in ended.stderr
    assert ended.status != 0
    assert not list(tmp_path.iterdir())
