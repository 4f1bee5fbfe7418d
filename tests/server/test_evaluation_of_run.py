from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from references.cohorts import make_cohort, with_events
from references.run_folder import make_run
from references.site_rounds import small_config

from acf_server.coordinator import Coordinator, initialise
from acf_server.evaluation import (
    evaluate_run,
    evaluate_tables,
)
from acf_server.risk_map_files import read_risk_maps
from acf_server.run_files import (
    CONTRACT_FILE,
    RUN_FILE,
    read_verdict,
    write_record,
)
from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.images.repairs import Repairs
from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PreparationEvent,
)
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.sites import held_out_site, synthesize_site
from acfnet_core.errors import DataError
from acfnet_core.evaluation.baselines import FONG_SCORE, KAPLAN_MEIER, RIDGE_COX
from acfnet_core.federation.release import RELEASE_FOLDER, save_release
from acfnet_core.model.config import MODEL_NAME
from acfnet_core.model.network import build_model
from acfnet_core.training.baselines_of_cohorts import outcomes_of
from acfnet_core.training.model_arrays import model_arrays

CONTRACT = shipped_contract("crlm")
HELD_OUT = make_cohort(30, seed=5)
REFERENCE = make_cohort(40, seed=6)


def write_finished_run(
    folder: Path,
    contract: DataContract = CONTRACT,
    *,
    supported_months: float | None = None,
    landmark_months: float | None = None,
    **model: Any,
) -> Path:
    """Write what a run leaves of its model; nobody trained it."""
    config = small_config(contract.num_clinical_features, **model)
    folder.mkdir(parents=True, exist_ok=True)
    record = make_run(minimum_cell=10, features=list(contract.features))
    write_record(folder / RUN_FILE, record)
    (folder / CONTRACT_FILE).write_text(contract_to_toml(contract))
    save_release(
        folder / RELEASE_FOLDER,
        model_arrays(build_model(config, seed=2)),
        run="trial",
        model=config.model_dump(mode="json"),
        contract_sha256=contract.sha256(),
        supported_months=supported_months,
        landmark_months=landmark_months,
    )
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_finished_run(tmp_path / "run")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    return initialise(
        tmp_path_factory.mktemp("server") / "coordinator",
        consortium="crlm",
        address="fl.example.org:8443",
        contract_text=contract_to_toml(CONTRACT),
        root_passphrase=b"x",
    )


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a made-up hospital of four patients."""
    folder = tmp_path_factory.mktemp("hospital")
    for _ in synthesize_site(held_out_site(4), folder, seed=3, num_workers=1):
        pass
    return folder


@pytest.fixture(scope="module")
def with_images(coordinator: Coordinator, hospital: Path) -> Path:
    """A run's folder after the evaluation on patients with images."""
    folder = write_finished_run(coordinator.runs_folder / "trial")
    evaluate(coordinator, folder, hospital, images=hospital / "images")
    return folder


def evaluate(
    coordinator: Coordinator,
    run_folder: Path,
    hospital: Path,
    *,
    images: Path | None = None,
    references: tuple[Path, ...] = (),
) -> list[PreparationEvent]:
    events: list[PreparationEvent] = []
    evaluate_tables(
        coordinator,
        run_folder,
        held_out=CohortSources(
            clinical_table=hospital / "clinical.xlsx", images_folder=images
        ),
        references=[CohortSources(clinical_table=table) for table in references],
        notify=events.append,
    )
    return events


def names_of(run_folder: Path) -> list[str]:
    verdict = read_verdict(run_folder)
    assert verdict is not None
    return [score.name for score in verdict.scores]


def test_the_model_is_judged_beside_all_three_baselines(run_folder: Path) -> None:
    evaluate_run(run_folder, HELD_OUT, [REFERENCE])
    names = names_of(run_folder)
    assert names[0] == MODEL_NAME
    assert sorted(names[1:]) == sorted([RIDGE_COX, FONG_SCORE, KAPLAN_MEIER])


def test_the_written_verdict_is_the_one_returned(run_folder: Path) -> None:
    verdict = evaluate_run(run_folder, HELD_OUT, [REFERENCE])
    assert read_verdict(run_folder) == verdict
    assert (verdict.num_patients, verdict.num_training_patients) == (30, 40)


def test_evaluating_twice_gives_the_same_verdict(run_folder: Path) -> None:
    first = evaluate_run(run_folder, HELD_OUT, [REFERENCE])
    assert evaluate_run(run_folder, HELD_OUT, [REFERENCE]) == first


def test_without_references_there_is_no_cox_and_a_warning(run_folder: Path) -> None:
    verdict = evaluate_run(run_folder, HELD_OUT, [])
    assert names_of(run_folder) == [MODEL_NAME, KAPLAN_MEIER]
    assert any("held-out patients" in warning for warning in verdict.warnings)
    assert verdict.num_training_patients is None


def test_references_are_joined(run_folder: Path) -> None:
    verdict = evaluate_run(run_folder, HELD_OUT, [REFERENCE, make_cohort(15, seed=7)])
    assert verdict.num_training_patients == 55


def test_without_known_scores_there_is_no_fong(run_folder: Path) -> None:
    unknown = PreparedCohort(
        contract=REFERENCE.contract,
        folder=REFERENCE.folder,
        patients=tuple(
            type(p)(**{**vars(p), "fong_score": None}) for p in REFERENCE.patients
        ),
    )
    evaluate_run(run_folder, HELD_OUT, [unknown])
    assert FONG_SCORE not in names_of(run_folder)


def test_without_images_there_is_no_risk_map(run_folder: Path) -> None:
    evaluate_run(run_folder, HELD_OUT, [])
    assert read_risk_maps(run_folder) == ()


def test_an_empty_held_out_cohort_is_refused(run_folder: Path) -> None:
    with pytest.raises(DataError, match="no patient") as caught:
        evaluate_run(run_folder, make_cohort(0, seed=1), [])
    assert caught.value.code == "data.nothing_usable"


def test_references_without_an_event_are_refused(run_folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        evaluate_run(run_folder, HELD_OUT, [with_events(REFERENCE, 0)])
    assert caught.value.code == "data.no_events"


def test_other_columns_than_the_models_are_refused(run_folder: Path) -> None:
    contract = CONTRACT.without_imaging().with_features(["age", "sex"])
    with pytest.raises(DataError) as caught:
        evaluate_run(run_folder, make_cohort(30, seed=1, contract=contract), [])
    assert caught.value.code == "data.contract_mismatch"


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    record = make_run(features=list(CONTRACT.features))
    write_record(tmp_path / RUN_FILE, record)
    with pytest.raises(DataError, match="no trained model"):
        evaluate_run(tmp_path, HELD_OUT, [])


def test_an_unknown_score_is_not_a_number() -> None:
    patient = type(HELD_OUT.patients[0])(
        **{**vars(HELD_OUT.patients[0]), "fong_score": None}
    )
    cohort = PreparedCohort(
        contract=HELD_OUT.contract, folder=HELD_OUT.folder, patients=(patient,)
    )
    assert np.isnan(outcomes_of(cohort).fong_score).all()


def test_the_patients_of_highest_and_lowest_risk_are_shown(with_images: Path) -> None:
    high, low = read_risk_maps(with_images)
    assert "highest" in high.title
    assert "lowest" in low.title
    assert high.survival.mean() <= low.survival.mean()


def test_a_risk_map_lies_on_the_grid_of_the_scan(with_images: Path) -> None:
    shown = read_risk_maps(with_images)[0]
    assert shown.window_hu == (5.0, 185.0)
    assert shown.ct_hu.shape == (24, 48, 48)
    assert shown.maps.shape == (8, 24, 48, 48)
    assert shown.liver.any()
    # Windowed at 95 HU +- 3 x 30 HU.
    assert 4.9 <= shown.ct_hu.min() <= shown.ct_hu.max() <= 185.1


def test_no_identifier_is_in_what_an_evaluation_writes(
    with_images: Path, hospital: Path
) -> None:
    patients = [path.name for path in (hospital / "images").iterdir()]
    assert patients
    written = [path for path in with_images.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in written)
    assert not [name for name in patients if name.encode() in content]


def test_evaluating_again_without_images_leaves_no_old_map(
    coordinator: Coordinator, hospital: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "again")
    evaluate(coordinator, folder, hospital, images=hospital / "images")
    assert len(read_risk_maps(folder)) == 2
    evaluate(coordinator, folder, hospital)
    assert read_risk_maps(folder) == ()


def test_the_preparation_of_the_held_out_patients_is_told(
    coordinator: Coordinator, hospital: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "told")
    table = hospital / "clinical.xlsx"
    events = evaluate(coordinator, folder, hospital, references=(table,))
    assert isinstance(events[-1], CohortFinished)
    assert events[-1].num_patients == 4


def test_the_verdict_says_how_the_files_were_read(
    coordinator: Coordinator, hospital: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "read")
    table = hospital / "clinical.xlsx"
    described = CohortSources(
        clinical_table=table, repairs=Repairs(empty_uids=True), images_folder=hospital
    )
    verdict = evaluate_tables(
        coordinator,
        folder,
        held_out=CohortSources(clinical_table=table),
        references=[described],
        notify=lambda event: None,
    )
    plain = CohortSources(clinical_table=table).reading_sha256()
    assert verdict.reading_sha256 == plain
    assert verdict.references_reading_sha256 == [described.reading_sha256()]
    assert read_verdict(folder) == verdict


def test_a_reference_table_without_any_outcome_is_refused(
    coordinator: Coordinator, hospital: Path, tmp_path: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "blank")
    table = pd.read_excel(hospital / "clinical.xlsx", dtype=object)
    endpoint = CONTRACT.endpoint
    table[[endpoint.time_column, endpoint.event_column]] = None
    blank = tmp_path / "blank.csv"
    table.to_csv(blank, index=False)
    with pytest.raises(DataError, match="no row has an outcome"):
        evaluate(coordinator, folder, hospital, references=(blank,))


def test_a_horizon_of_twelve_years_is_judged_as_far_as_it_is_supported(
    tmp_path: Path,
) -> None:
    folder = write_finished_run(
        tmp_path, supported_months=42.0, num_years=12, modalities="clinical"
    )
    verdict = evaluate_run(folder, HELD_OUT, [REFERENCE])
    assert verdict.supported_months == 42.0
    assert verdict.tau_months <= 42.0
    assert all(score.auc_by_year["5"] is None for score in verdict.scores)
    assert any("After 42 months no site" in warning for warning in verdict.warnings)


def test_maps_of_years_that_are_not_supported_are_left_out(
    coordinator: Coordinator, hospital: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "few", supported_months=30.0)
    evaluate(coordinator, folder, hospital, images=hospital / "images")
    shown = read_risk_maps(folder)[0]
    assert shown.years == (1, 2)
    assert shown.maps.shape == (2, 24, 48, 48)
    assert shown.survival.shape == (4,)


def test_without_a_supported_year_there_is_no_map(
    coordinator: Coordinator, hospital: Path
) -> None:
    folder = write_finished_run(coordinator.runs_folder / "none", supported_months=6.0)
    evaluate(coordinator, folder, hospital, images=hospital / "images")
    assert read_risk_maps(folder) == ()


def test_a_run_with_a_landmark_is_judged_from_it_and_its_baselines_too(
    tmp_path: Path,
) -> None:
    plain = write_finished_run(tmp_path / "plain")
    marked = write_finished_run(tmp_path / "marked", landmark_months=12.0)
    verdict = evaluate_run(marked, HELD_OUT, [REFERENCE])
    views = [view_at_landmark(cohort, 12.0) for cohort in (HELD_OUT, REFERENCE)]
    expected = evaluate_run(plain, views[0], views[1:])
    assert verdict.landmark_months == 12.0
    assert verdict.num_patients < len(HELD_OUT.patients)
    assert verdict.model_copy(update={"landmark_months": None}) == expected


def test_a_landmark_that_nobody_reaches_is_refused(tmp_path: Path) -> None:
    folder = write_finished_run(tmp_path, landmark_months=96.0)
    with pytest.raises(DataError, match="at the run's landmark"):
        evaluate_run(folder, HELD_OUT, [])


def test_references_that_nobody_reaches_the_landmark_in_fit_no_baseline(
    tmp_path: Path,
) -> None:
    folder = write_finished_run(tmp_path, landmark_months=12.0)
    patients = tuple(replace(p, time_months=5.0) for p in REFERENCE.patients)
    evaluate_run(folder, HELD_OUT, [replace(REFERENCE, patients=patients)])
    assert names_of(folder) == [MODEL_NAME, KAPLAN_MEIER]
