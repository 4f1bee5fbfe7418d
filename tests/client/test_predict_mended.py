"""A prediction for a patient whose scans were mended: a picture, and no DICOM."""

from pathlib import Path

import pytest
import torch
from pydicom import dcmread
from references.admitted_sites import admit_site, synthesize_small_hospital
from references.command_line import Program
from references.site_rounds import small_model

from acf_client.cli import main
from acf_client.data import prepare_site
from acf_client.prediction import predict_at_site
from acf_client.site import Site, open_site
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.errors import DataError
from acfnet_core.federation.release import save_release
from acfnet_core.training.model_arrays import model_arrays

CONTRACT = shipped_contract("crlm")
PATIENT = "CRLM-SYN-A0003"


def _set(site: Site, before: str, after: str) -> Site:
    path = site.folder / "site.toml"
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    return open_site(site.folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a patient whom the folder alone names."""
    folder = tmp_path_factory.mktemp("hospital")
    synthesize_small_hospital(folder)
    site = admit_site(folder, CONTRACT)
    assert site.images is not None
    for path in (site.images / PATIENT).rglob("*.dcm"):
        dataset = dcmread(path)
        dataset.PatientID = ""
        dataset.save_as(path)
    before = "patient_from_folder = false"
    site = _set(site, before, "patient_from_folder = true")
    list(prepare_site(site, 1))
    return site


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_model(seed=1)
    with torch.no_grad():
        network.get_parameter("readout.risk.weight").mul_(50)
    folder = tmp_path_factory.mktemp("model")
    save_release(
        folder,
        model_arrays(network),
        run="first",
        model=network.config.model_dump(mode="json"),
        contract_sha256=CONTRACT.sha256(),
        supported_months=30.0,
        members={},
    )
    return folder


def test_a_mended_scan_gives_a_picture_and_no_dicom(site: Site, model: Path) -> None:
    written = predict_at_site(site, PATIENT, model_folders=[model])
    assert written.mended == ("NO_PATIENT_ID",)
    names = {file.name for file in written.files}
    assert names == {"prediction.json", "curve.png", "risk-maps.png"}
    assert written.identifying == ()


def test_the_reason_is_told(
    site: Site,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Program("acf-client", main, monkeypatch, capsys)
    ended = client.run("predict", PATIENT, "--model", model, "--folder", site.folder)
    assert ended.status == 0
    assert "No maps as DICOM: the scan was mended (NO_PATIENT_ID)" in ended.stderr


def test_with_the_repair_switched_off_the_data_is_to_be_prepared_again(
    site: Site, model: Path
) -> None:
    on, off = (f"patient_from_folder = {value}" for value in ("true", "false"))
    without = _set(site, on, off)
    try:
        with pytest.raises(DataError) as caught:
            predict_at_site(without, PATIENT, model_folders=[model])
    finally:
        _set(site, off, on)
    assert caught.value.code == "data.reading_changed"
