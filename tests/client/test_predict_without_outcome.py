"""A site that asks about patients without follow-up."""

import json
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from references.admitted_sites import admit_site, synthesize_small_hospital
from references.command_line import Ended, Program
from references.site_rounds import small_model

from acf_client.cli import main
from acf_client.site import Site, initialise
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.federation.release import save_release
from acfnet_core.training.model_arrays import model_arrays

CONTRACT = shipped_contract("crlm")
KNOWN, UNKNOWN, UNKNOWN_WITH_SCANS = (
    "CRLM-SYN-A0002",
    "CRLM-SYN-A0001",
    "CRLM-SYN-A0003",
)
NOT_IN_TRAINING = "so was not in training: no run trains on such a patient"
IN_TRAINING = "the model has seen the outcome"

Ask = Callable[..., Ended]


def _forget_outcomes(table: Path, patients: tuple[str, ...]) -> None:
    """Empty the time and the event of some patients of a workbook."""
    book = openpyxl.load_workbook(table)
    sheet = book.worksheets[0]
    names = [cell.value for cell in sheet[1]]
    endpoint = CONTRACT.endpoint
    columns = [names.index(n) for n in (endpoint.time_column, endpoint.event_column)]
    identifier = names.index(CONTRACT.patient_id_column)
    for row in sheet.iter_rows(min_row=2):
        if row[identifier].value in patients:
            for column in columns:
                row[column].value = None
    book.save(table)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An enrolled site; of its three patients one has an outcome."""
    folder = tmp_path_factory.mktemp("hospital")
    synthesize_small_hospital(folder)
    _forget_outcomes(folder / "clinical.xlsx", (UNKNOWN, UNKNOWN_WITH_SCANS))
    return admit_site(folder, CONTRACT)


@pytest.fixture
def client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program("acf-client", main, monkeypatch, capsys)


def _model(folder: Path, landmark_months: float | None) -> Path:
    model = small_model()
    save_release(
        folder,
        model_arrays(model),
        run=folder.name,
        model=model.config.model_dump(mode="json"),
        contract_sha256=CONTRACT.sha256(),
        landmark_months=landmark_months,
    )
    return folder


@pytest.fixture
def ask(client: Program, site: Site, tmp_path: Path) -> Ask:
    """Prepare, which repeats nothing, and ask about a patient."""
    client.run("data", "prepare", "--folder", site.folder)

    def run(patient: str, *, landmark_months: float | None = None) -> Ended:
        model = _model(tmp_path / "model", landmark_months)
        words = ("--model", model, "--folder", site.folder, "--no-dicom", "--json")
        ended = client.run("predict", patient, *words)
        assert ended.status == 0
        return ended

    return run


def prediction_of(ended: Ended) -> dict[str, object]:
    content = json.loads(ended.stdout)["prediction"]
    assert isinstance(content, dict)
    return content


def test_preparing_tells_how_many_serve_prediction_alone(
    client: Program, site: Site
) -> None:
    ended = client.run("data", "prepare", "--folder", site.folder, "--json")
    content = json.loads(ended.stdout)
    assert (content["num_patients"], content["num_without_outcome"]) == (1, 2)
    assert "Prepared 2 patients without an outcome, with 3 scans" in ended.stderr
    assert "for `predict` alone; no run trains on these patients" in ended.stderr
    assert "Next: acf-client start" in ended.stderr


def test_the_check_tells_how_many_serve_prediction_alone(
    client: Program, site: Site
) -> None:
    ended = client.run("data", "check", "--folder", site.folder)
    assert ended.status == 0
    assert "2 without an outcome" in ended.stderr
    assert "for `predict` alone; no run trains on these patients" in ended.stderr
    assert "No patient has an outcome" not in ended.stderr


@pytest.mark.parametrize("patient", [UNKNOWN, UNKNOWN_WITH_SCANS])
def test_a_patient_without_outcome_is_predicted_and_was_not_in_training(
    ask: Ask, patient: str
) -> None:
    ended = ask(patient)
    assert NOT_IN_TRAINING in ended.stderr
    assert IN_TRAINING not in ended.stderr
    record = prediction_of(ended)
    assert record["has_outcome"] is False
    assert any(NOT_IN_TRAINING in note for note in _notes(record))
    assert record["has_image"] is (patient == UNKNOWN_WITH_SCANS)


def test_a_patient_with_an_outcome_may_have_been_in_training(ask: Ask) -> None:
    ended = ask(KNOWN)
    assert IN_TRAINING in ended.stderr
    assert NOT_IN_TRAINING not in ended.stderr
    assert prediction_of(ended)["has_outcome"] is True


def test_a_landmark_cuts_the_scans_of_a_patient_without_outcome(ask: Ask) -> None:
    whole = prediction_of(ask(UNKNOWN_WITH_SCANS))["scans"]
    assert isinstance(whole, list)
    times = sorted(scan["time_months"] for scan in whole)
    landmark = (times[0] + times[-1]) / 2
    assert times[0] < landmark < times[-1]
    cut = prediction_of(ask(UNKNOWN_WITH_SCANS, landmark_months=landmark))["scans"]
    assert isinstance(cut, list)
    expected = [time - landmark for time in times if time <= landmark]
    assert [scan["time_months"] for scan in cut] == pytest.approx(expected)


def test_at_a_landmark_it_is_said_what_nobody_knows(ask: Ask) -> None:
    words = "only if the patient was still free of the event at the landmark"
    assert words in ask(UNKNOWN, landmark_months=0.0).stderr
    assert words not in ask(UNKNOWN).stderr


def test_the_identifier_is_never_said(ask: Ask, site: Site) -> None:
    ended = ask(UNKNOWN)
    assert UNKNOWN not in ended.stdout + ended.stderr + site.audit.path.read_text()


@pytest.mark.parametrize(
    ("command", "next_command"),
    [("check", "data prepare"), ("prepare", "predict PATIENT --model MODEL")],
)
def test_a_site_without_any_outcome_is_warned_and_goes_on(
    client: Program, site: Site, tmp_path: Path, command: str, next_command: str
) -> None:
    names = list(CONTRACT.columns)
    row = ["7" if n == CONTRACT.patient_id_column else "-999" for n in names]
    table = tmp_path / "clinical.csv"
    table.write_text(f"{','.join(names)}\n{','.join(row)}\n")
    other = initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    for path in (site.enrolment_path, site.contract_path):
        (other.folder / path.relative_to(site.folder)).write_bytes(path.read_bytes())
    ended = client.run("data", command, "--folder", other.folder)
    assert ended.status == 0
    assert "No patient has an outcome" in ended.stderr
    assert "data.too_few_patients" in ended.stderr
    assert f"Next: acf-client {next_command}" in ended.stderr


def _notes(record: dict[str, object]) -> list[str]:
    notes = record["notes"]
    assert isinstance(notes, list)
    return notes
