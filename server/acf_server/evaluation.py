"""Judging a run's global model on held-out patients, beside honest baselines.

The held-out cohort is prepared exactly as a site's is. The baselines are fitted on
tables that the coordinator may see; where there is none, they are left out and the
report says so.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from acf_server.coordinator import Coordinator
from acf_server.risk_map_files import RiskMapPatient, write_risk_map
from acf_server.run_files import (
    CONTRACT_FILE,
    EVALUATION_FILE,
    RISK_MAPS_FOLDER,
    read_run,
    write_record,
)
from acfnet_core.cohort.contract import DataContract, load_contract
from acfnet_core.cohort.dataset import collate
from acfnet_core.cohort.preparation import CohortSources, prepare_cohort
from acfnet_core.cohort.preparation_events import PreparationEvent
from acfnet_core.cohort.store import PreparedCohort, open_store
from acfnet_core.errors import DataError
from acfnet_core.evaluation.baselines import (
    FONG_SCORE,
    RIDGE_COX,
    FongScore,
    RidgeCox,
)
from acfnet_core.evaluation.judge import judge
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.federation.release import RELEASE_FOLDER
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically
from acfnet_core.model.network import AcfNet
from acfnet_core.model.risk_maps import upsample_risk_maps
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.batches import patient_inputs
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.release import load_model

MODEL_NAME = "4D-ACFNet"


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Clinical columns and outcomes of some patients, as the baselines take them."""

    clinical: Float[np.ndarray, "patient feature"]
    clinical_mask: Bool[np.ndarray, "patient feature"]
    fong_score: Float[np.ndarray, " patient"]
    """NaN where it is not known."""
    time_months: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]


def evaluate_tables(
    coordinator: Coordinator,
    run_folder: Path,
    *,
    clinical: Path,
    images: Path | None,
    references: Sequence[Path],
    notify: Callable[[PreparationEvent], None],
) -> Verdict:
    """Prepare the cohorts that the coordinator holds, then judge a run by them.

    Args:
        coordinator: The coordinator's folder.
        run_folder: The folder of a finished run.
        clinical: Clinical table of the held-out patients.
        images: Their DICOM files, if there are any.
        references: Tables of patients on which the baselines may be fitted.
        notify: Takes each event of the held-out cohort's preparation.

    Raises:
        DataError: A table or image cannot be used, or the run has no model yet.
    """
    sources = CohortSources(clinical_table=clinical, images_folder=images)
    for event in prepare_at_coordinator(
        coordinator, run_folder, sources, name="held-out"
    ):
        notify(event)
    held_out = open_at_coordinator(coordinator, run_folder, sources, name="held-out")
    cohorts = []
    for number, table in enumerate(references, start=1):
        name = f"reference-{number}"
        source = CohortSources(clinical_table=table, images_folder=None)
        for _ in prepare_at_coordinator(coordinator, run_folder, source, name=name):
            pass
        cohorts.append(open_at_coordinator(coordinator, run_folder, source, name=name))
    return evaluate_run(run_folder, held_out, cohorts)


def prepare_at_coordinator(
    coordinator: Coordinator, run_folder: Path, sources: CohortSources, *, name: str
) -> Iterator[PreparationEvent]:
    """Prepare a cohort that the coordinator holds, as a site prepares its own.

    Args:
        coordinator: The coordinator's folder; receives the prepared store.
        run_folder: The run, whose contract holds.
        sources: The clinical table and, if there are any, the images.
        name: What to call the store.

    Raises:
        DataError: The data is not usable.
    """
    contract = _contract_for(run_folder, sources)
    yield from prepare_cohort(
        contract,
        sources,
        cohort_folder(coordinator, name),
        pseudonym_key=_pseudonym_key(coordinator),
    )


def open_at_coordinator(
    coordinator: Coordinator, run_folder: Path, sources: CohortSources, *, name: str
) -> PreparedCohort:
    """Open what `prepare_at_coordinator` wrote."""
    contract = _contract_for(run_folder, sources)
    return open_store(cohort_folder(coordinator, name), contract=contract)


def cohort_folder(coordinator: Coordinator, name: str) -> Path:
    """Return where a prepared cohort of the coordinator lies."""
    return coordinator.folder / "cohorts" / name


def evaluate_run(
    run_folder: Path,
    held_out: PreparedCohort,
    references: Sequence[PreparedCohort],
) -> Verdict:
    """Judge a finished run's model and write evaluation.json and the risk maps.

    Args:
        run_folder: The folder of a finished run.
        held_out: Patients that no site trained on.
        references: Cohorts on which the baselines may be fitted; may be none.

    Raises:
        DataError: The run has no trained model yet, there is no held-out patient, or
            the cohort has other columns than the run (`data.contract_mismatch`).
    """
    run = read_run(run_folder)
    model = load_model(run_folder / RELEASE_FOLDER)
    contract = load_contract(run_folder / CONTRACT_FILE)
    accepted = {contract.sha256(), contract.without_imaging().sha256()}
    if held_out.contract.sha256() not in accepted:
        raise DataError(
            "data.contract_mismatch",
            f"The held-out cohort was prepared under another contract than the run "
            f"{run.name}.",
            remedy=f"Prepare it under {run_folder / CONTRACT_FILE}.",
        )
    if not held_out.patients:
        raise DataError(
            "data.nothing_usable",
            "The held-out cohort has no patient that can be used.",
            remedy="Look at what `evaluate` said of its table and images.",
        )
    prediction = predict_cohort(model, held_out, loss=LossConfig())
    edges = np.asarray(model.config.bin_edges_months, dtype=np.float64)
    predictions = {MODEL_NAME: prediction.survival}
    training = _join([outcomes_of(cohort) for cohort in references])
    if training is not None:
        predictions |= _fit_baselines(training, outcomes_of(held_out), edges)
    verdict = judge(
        time_months=prediction.time_months,
        event=prediction.event,
        predictions=predictions,
        bin_edges_months=edges,
        train_time_months=None if training is None else training.time_months,
        train_event=None if training is None else training.event,
        bootstrap_seed=run.seed,
        minimum_cell=run.minimum_cell,
    )
    _write_risk_maps(run_folder, model, held_out, prediction.survival)
    write_record(run_folder / EVALUATION_FILE, verdict)
    return verdict


def outcomes_of(cohort: PreparedCohort) -> Outcomes:
    """Collect a cohort's clinical columns and outcomes."""
    patients = cohort.patients
    scores = [p.fong_score for p in patients]
    return Outcomes(
        clinical=np.array([p.clinical for p in patients], dtype=np.float64),
        clinical_mask=np.array([p.clinical_mask for p in patients], dtype=bool),
        fong_score=np.array(
            [np.nan if score is None else score for score in scores], dtype=np.float64
        ),
        time_months=np.array([p.time_months for p in patients], dtype=np.float64),
        event=np.array([p.event == 1 for p in patients], dtype=bool),
    )


def _contract_for(run_folder: Path, sources: CohortSources) -> DataContract:
    """Return the contract that the run was started under, not one changed since."""
    contract = load_contract(run_folder / CONTRACT_FILE)
    return contract if sources.images_folder else contract.without_imaging()


def _pseudonym_key(coordinator: Coordinator) -> bytes:
    path = make_folder(coordinator.folder / "cohorts", private=True) / "pseudonym.key"
    if not path.exists():
        write_atomically(path, secrets.token_bytes(32), mode=PRIVATE_MODE)
    return path.read_bytes()


def _join(parts: Sequence[Outcomes]) -> Outcomes | None:
    if not parts:
        return None
    return Outcomes(
        clinical=np.concatenate([p.clinical for p in parts]),
        clinical_mask=np.concatenate([p.clinical_mask for p in parts]),
        fong_score=np.concatenate([p.fong_score for p in parts]),
        time_months=np.concatenate([p.time_months for p in parts]),
        event=np.concatenate([p.event for p in parts]),
    )


def _fit_baselines(
    training: Outcomes, held_out: Outcomes, edges: Float[np.ndarray, " bin"]
) -> dict[str, Float[np.ndarray, "patient bin"]]:
    """Fit ridge Cox and, where scores are known, Fong on what may be seen."""
    cox = RidgeCox.fit(
        training.clinical, training.clinical_mask, training.time_months, training.event
    )
    predictions = {
        RIDGE_COX: cox.predict_survival(
            held_out.clinical, held_out.clinical_mask, edges
        )
    }
    if np.isfinite(training.fong_score).any():
        fong = FongScore.fit(training.fong_score, training.time_months, training.event)
        predictions[FONG_SCORE] = fong.predict_survival(held_out.fong_score, edges)
    return predictions


def _write_risk_maps(
    run_folder: Path,
    model: AcfNet,
    cohort: PreparedCohort,
    survival: Float[np.ndarray, "patient bin"],
) -> None:
    """Show the highest and the lowest predicted risk among patients with a scan."""
    folder = run_folder / RISK_MAPS_FOLDER
    for stale in folder.glob("*.safetensors"):
        stale.unlink()
    by_risk = np.argsort(survival.mean(axis=1), kind="stable")
    with_scan = [int(i) for i in by_risk if cohort.patients[i].scans]
    shown = dict.fromkeys([*with_scan[:1], *with_scan[-1:]])
    words = ("highest predicted risk", "lowest predicted risk")
    for number, (index, what) in enumerate(zip(shown, words, strict=False), start=1):
        make_folder(folder)
        title = f"held-out patient {number}, {what}"
        patient = _risk_map(model, cohort, index, title)
        write_risk_map(folder / f"patient-{number}.safetensors", patient)


def _risk_map(
    model: AcfNet, cohort: PreparedCohort, index: int, title: str
) -> RiskMapPatient:
    """Spread a patient's maps over the latest scan's grid."""
    batch = collate(cohort, [index])
    with torch.no_grad():
        output = model(patient_inputs(batch, torch.device("cpu")))
        maps = upsample_risk_maps(output.risk_maps, cohort.grid_shape)
    latest = len(cohort.patients[index].scans) - 1
    windowed, liver, tumour, _ = batch.scans[0, latest].numpy()
    imaging = cohort.contract.imaging
    if imaging is None:
        raise ValueError("a cohort with scans has a contract with imaging")
    half_hu = imaging.window_clip * imaging.window_width_hu
    return RiskMapPatient(
        title=title,
        years=model.config.risk_map_years,
        ct_hu=windowed * imaging.window_width_hu + imaging.window_centre_hu,
        window_hu=(
            imaging.window_centre_hu - half_hu,
            imaging.window_centre_hu + half_hu,
        ),
        liver=liver.astype(np.uint8),
        tumour=tumour.astype(np.uint8),
        maps=maps[0].numpy(),
        survival=output.survival[0].numpy(),
    )
