import json
import logging
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from references.admitted_sites import admit_site, synthesize_small_hospital
from references.command_line import Ended, Program, refused
from references.site_rounds import small_model

from acf_client.cli import main
from acf_client.data import prepare_site
from acf_client.prediction import WrittenPrediction, predict_at_site
from acf_client.site import Site, open_site
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import make_pseudonym
from acfnet_core.errors import DataError, MachineError
from acfnet_core.federation.release import save_release
from acfnet_core.training.model_arrays import model_arrays

CONTRACT = shipped_contract("crlm")
WITHOUT_SCANS, WITH_SCANS = "CRLM-SYN-A0001", "CRLM-SYN-A0003"
SUPPORTED_MONTHS = 30.0
NUMBERS = {"prediction.json", "curve.png"}


@dataclass(frozen=True)
class Hospital:
    """A site with prepared patients, and trained models."""

    site: Site
    model: Path
    other: Path

    def pseudonym(self, patient: str) -> str:
        return make_pseudonym(self.site.load_pseudonym_key(), patient)


def _release(folder: Path, *seeds: int, contract_sha256: str | None = None) -> Path:
    model = small_model(seed=seeds[0])
    with torch.no_grad():
        model.get_parameter("readout.risk.weight").mul_(50)
    save_release(
        folder,
        model_arrays(model),
        run=folder.name,
        model=model.config.model_dump(mode="json"),
        contract_sha256=contract_sha256 or CONTRACT.sha256(),
        supported_months=SUPPORTED_MONTHS,
        members={
            n: model_arrays(small_model(seed=seed))
            for n, seed in enumerate(seeds)
            if n > 0
        },
    )
    return folder


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("hospital")
    synthesize_small_hospital(folder)
    site = admit_site(folder, CONTRACT)
    list(prepare_site(site, 1))
    return Hospital(
        site=site,
        model=_release(folder / "first", 1, 2, 3),
        other=_release(folder / "second", 4),
    )


@pytest.fixture(scope="module")
def written(hospital: Hospital) -> WrittenPrediction:
    """Everything that is written of a patient with scans."""
    return predict_at_site(hospital.site, WITH_SCANS, model_folders=[hospital.model])


@pytest.fixture
def ask(
    hospital: Hospital,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ended]:
    """Run the command on a patient without scans, or on another."""
    client = Program("acf-client", main, monkeypatch, capsys)

    def run(*options: object, patient: str = WITHOUT_SCANS) -> Ended:
        given = ("--model", hospital.model) if "--model" not in options else ()
        return client.run(
            "predict", patient, *given, "--folder", hospital.site.folder, *options
        )

    return run


def names_in(written: WrittenPrediction) -> set[str]:
    return {file.parts[0] for file in written.files}


def test_everything_is_written_under_the_pseudonym(
    hospital: Hospital, written: WrittenPrediction
) -> None:
    expected = hospital.site.predictions_folder / hospital.pseudonym(WITH_SCANS)
    assert written.folder == expected
    assert names_in(written) == NUMBERS | {
        "risk-maps.png",
        "parametric-maps",
        "overlays",
    }


def test_files_and_folders_are_the_owner_s_alone(
    hospital: Hospital, written: WrittenPrediction
) -> None:
    paths = [hospital.site.predictions_folder, written.folder]
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for path in [*paths, *written.folder.rglob("*")]
    }
    assert modes == {(True, 0o700), (False, 0o600)}


def test_the_record_is_the_file(written: WrittenPrediction) -> None:
    content = json.loads((written.folder / "prediction.json").read_bytes())
    assert content == written.record.model_dump(mode="json")


def test_the_record_says_what_was_asked_and_told(written: WrittenPrediction) -> None:
    record = written.record
    assert record.num_models == 3
    assert record.models[0].num_members == 2
    assert "3 models, the last rounds of one run" in record.lowest_and_highest
    assert "Research only, not a medical device" in record.caution
    assert any("Not a forecast of where" in note for note in record.notes)
    assert any("the model has seen the outcome" in note for note in record.notes)
    assert record.supported_months == SUPPORTED_MONTHS
    assert record.has_image
    assert len(record.scans) > 1


def test_maps_of_years_without_support_are_left_out(
    written: WrittenPrediction,
) -> None:
    files = {str(file) for file in written.files if "parametric" in str(file)}
    assert files == {f"parametric-maps/year-0{year}.dcm" for year in (1, 2)}
    assert written.years_left_out == (3, 4, 5, 6, 7, 8)


def test_the_parametric_maps_add_up_to_the_record(written: WrittenPrediction) -> None:
    dataset = dcmread(written.folder / "parametric-maps" / "year-01.dcm")
    pixels = np.frombuffer(
        dataset.get("FloatPixelData") or dataset.get("DoubleFloatPixelData"), np.float32
    )
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    area = float(measures.PixelSpacing[0]) * float(measures.PixelSpacing[1])
    volume_ml = area * float(measures.SpacingBetweenSlices) / 1000
    total = float(pixels.sum(dtype=np.float64)) * volume_ml
    size = float(np.abs(pixels).sum(dtype=np.float64)) * volume_ml
    assert total == pytest.approx(written.record.risk_map_sums[0], abs=0.02 * size)


def test_dicom_alone_carries_the_patient_s_identity(
    written: WrittenPrediction,
) -> None:
    assert written.identifying == ("parametric-maps", "overlays")
    carrying = {
        file.parts[0]
        for file in written.files
        if WITH_SCANS.encode() in (written.folder / file).read_bytes()
    }
    assert carrying == set(written.identifying)


def test_the_audit_log_notes_the_asking_and_no_patient(
    hospital: Hospital, written: WrittenPrediction
) -> None:
    text = hospital.site.audit.path.read_text()
    assert '"event":"patient_predicted"' in text
    assert written.record.models[0].parameters_sha256 in text
    assert WITH_SCANS not in text
    assert written.record.pseudonym not in text


def test_an_earlier_result_is_replaced_whole(
    hospital: Hospital, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ask = partial(
        predict_at_site, hospital.site, model_folders=[hospital.model], out=out
    )
    ask(WITH_SCANS, with_dicom=False)
    assert {path.name for path in out.iterdir()} == NUMBERS | {"risk-maps.png"}
    ask(WITHOUT_SCANS)
    assert {path.name for path in out.iterdir()} == NUMBERS
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_result_that_cannot_be_finished_leaves_the_earlier_one(
    hospital: Hospital, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folders = [hospital.model]
    predict_at_site(hospital.site, WITHOUT_SCANS, model_folders=folders, out=out)
    before = (out / "prediction.json").read_bytes()
    data = hospital.site.config.data.model_copy(update={"images": tmp_path / "none"})
    config = hospital.site.config.model_copy(update={"data": data})
    moved = Site(folder=hospital.site.folder, config=config)
    with pytest.raises(DataError) as caught:
        predict_at_site(moved, WITH_SCANS, model_folders=folders, out=out)
    assert caught.value.code == "data.path_not_found"
    assert (out / "prediction.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_things_is_not_touched(
    hospital: Hospital, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MachineError) as caught:
        predict_at_site(
            hospital.site, WITHOUT_SCANS, model_folders=[hospital.model], out=tmp_path
        )
    assert caught.value.code == "machine.folder_not_empty"
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_file_in_the_folder_s_place_is_not_touched(
    hospital: Hospital, tmp_path: Path
) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("mine")
    with pytest.raises(MachineError, match="is no folder"):
        predict_at_site(
            hospital.site, WITHOUT_SCANS, model_folders=[hospital.model], out=file
        )
    assert file.read_text() == "mine"


def test_a_patient_without_scans_gets_the_curve_and_is_told_why(
    ask: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = ask("--out", tmp_path / "out")
    assert ended.status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == NUMBERS
    assert "No scan was read" in ended.stderr


def test_the_answer_is_read_at_a_glance(ask: Callable[..., Ended]) -> None:
    shown = ask().stderr
    assert "Projected probability to be free of the event" in shown
    assert "not a confidence interval: it understates the uncertainty" in shown
    assert "nobody was followed this long in training" in shown
    assert "Research only, not a medical device" in shown
    assert "under the pseudonym: curve.png, prediction.json" in shown


def test_the_command_never_says_the_patient_s_identifier(
    ask: Callable[..., Ended], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        ended = ask("--no-dicom", "--json", patient=WITH_SCANS)
    assert ended.status == 0
    assert WITH_SCANS not in ended.stdout + ended.stderr + caplog.text


def test_json_has_the_whole_prediction(
    ask: Callable[..., Ended], hospital: Hospital
) -> None:
    answer = json.loads(ask("--json").stdout)
    assert set(answer) == {"folder", "files", "identifying", "prediction"}
    assert answer["prediction"]["pseudonym"] == hospital.pseudonym(WITHOUT_SCANS)
    assert answer["identifying"] == []


def test_models_of_several_runs_make_one_range(
    ask: Callable[..., Ended], hospital: Hospital
) -> None:
    ended = ask("--model", hospital.model, "--model", hospital.other, "--json")
    prediction = json.loads(ended.stdout)["prediction"]
    assert prediction["num_models"] == 4
    assert "from 2 runs" in prediction["lowest_and_highest"]
    assert [model["run"] for model in prediction["models"]] == ["first", "second"]


def test_a_release_without_members_gives_no_range_and_says_so(
    ask: Callable[..., Ended], hospital: Hospital
) -> None:
    ended = ask("--model", hospital.other, "--json")
    assert json.loads(ended.stdout)["prediction"]["survival"]["lowest"] is None
    assert "one model: no range can be given" in ended.stderr


def test_an_unknown_patient_is_an_error_that_names_nobody(
    ask: Callable[..., Ended],
) -> None:
    ended = ask(patient="nobody-0815")
    refused(ended, "data.patient_unknown", "none of the 3 prepared patients")
    assert "CRLM-SYN" not in ended.stderr
    assert "nobody-0815" not in ended.stderr


def test_a_model_of_another_contract_is_refused(
    ask: Callable[..., Ended], tmp_path: Path
) -> None:
    stranger = _release(tmp_path / "stranger", 1, contract_sha256="c" * 64)
    ended = ask("--model", stranger)
    refused(ended, "data.contract_mismatch", str(stranger), "c" * 12)


def test_models_with_other_bins_are_refused_together(
    ask: Callable[..., Ended], hospital: Hospital, tmp_path: Path
) -> None:
    model = small_model(num_years=4)
    save_release(
        tmp_path,
        model_arrays(model),
        run="short",
        model=model.config.model_dump(mode="json"),
        contract_sha256=CONTRACT.sha256(),
    )
    ended = ask("--model", hospital.model, "--model", tmp_path)
    refused(ended, "config.invalid", "different time bins")


def test_a_patient_who_was_not_free_at_the_landmark_is_refused(
    ask: Callable[..., Ended], tmp_path: Path
) -> None:
    model = small_model()
    save_release(
        tmp_path,
        model_arrays(model),
        run="late",
        model=model.config.model_dump(mode="json"),
        contract_sha256=CONTRACT.sha256(),
        landmark_months=96.0,
    )
    refused(ask("--model", tmp_path), "data.patient_unknown", "before the landmark")


def test_changed_images_are_found_out(hospital: Hospital, tmp_path: Path) -> None:
    images = hospital.site.images
    assert images is not None
    shutil.copytree(images, tmp_path / "images")
    for path in (tmp_path / "images" / WITH_SCANS).rglob("*.dcm"):
        path.write_bytes(path.read_bytes() + b"\0\0")
    data = hospital.site.config.data.model_copy(update={"images": tmp_path / "images"})
    changed = Site(
        folder=hospital.site.folder,
        config=hospital.site.config.model_copy(update={"data": data}),
    )
    with pytest.raises(DataError) as caught:
        predict_at_site(changed, WITH_SCANS, model_folders=[hospital.model])
    assert caught.value.code == "data.source_changed"
    assert WITH_SCANS not in caught.value.message


def test_an_opened_site_keeps_its_predictions_beside_its_data(
    hospital: Hospital,
) -> None:
    site = open_site(hospital.site.folder)
    assert site.predictions_folder.parent == site.folder
