"""Judging a run's global model on held-out patients, beside honest baselines.

The held-out cohort is prepared exactly as a site's is. The baselines are fitted on
tables that the coordinator may see; where there is none, they are left out and the
report says so.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from acf_server.coordinator import Coordinator
from acf_server.held_out_maps import write_held_out_maps
from acf_server.run_files import (
    CONTRACT_FILE,
    EVALUATION_FILE,
    read_run,
    write_record,
)
from acfnet_core.cohort.contract import DataContract, load_contract
from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import PreparationEvent
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError
from acfnet_core.evaluation.judge import judge
from acfnet_core.evaluation.verdict import Verdict
from acfnet_core.federation.release import RELEASE_FOLDER, load_release
from acfnet_core.files import PRIVATE_MODE, make_folder, write_atomically
from acfnet_core.model.config import MODEL_NAME
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.baselines_of_cohorts import (
    join_outcomes,
    outcomes_of,
    predict_with_baselines,
)
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.release import load_model


def evaluate_tables(
    coordinator: Coordinator,
    run_folder: Path,
    *,
    held_out: CohortSources,
    references: Sequence[CohortSources],
    notify: Callable[[PreparationEvent], None],
) -> Verdict:
    """Prepare the cohorts that the coordinator holds, then judge a run by them.

    Args:
        coordinator: The coordinator's folder.
        run_folder: The folder of a finished run.
        held_out: Where the held-out patients' files lie, and how they are read.
        references: Patients on whose tables the baselines may be fitted; their images
            are not looked at.
        notify: Takes each event of the held-out cohort's preparation.

    Raises:
        DataError: A table or image cannot be used, or the run has no model yet.
    """
    if read_run(run_folder).strategy.name == "local_only":
        raise DataError(
            "data.path_not_found",
            f"{run_folder.name}: its strategy is local_only, so there is no global "
            "model to judge.",
            remedy="Evaluate a run with another strategy; what the sites' own models "
            f"reach, they have told: acf-server report {run_folder.name}",
        )
    for event in prepare_at_coordinator(
        coordinator, run_folder, held_out, name="held-out"
    ):
        notify(event)
    judged = open_at_coordinator(coordinator, run_folder, held_out, name="held-out")
    cohorts = []
    for number, reference in enumerate(references, start=1):
        name = f"reference-{number}"
        source = replace(reference, images_folder=None)
        for _ in prepare_at_coordinator(coordinator, run_folder, source, name=name):
            pass
        cohort = open_at_coordinator(coordinator, run_folder, source, name=name)
        if not cohort.patients:
            raise DataError(
                "data.nothing_usable",
                f"{source.clinical_table}: no row has an outcome, so no baseline can "
                "be fitted on it.",
                remedy="Fill in the outcome columns, or leave this table out.",
            )
        cohorts.append(cohort)
    return evaluate_run(run_folder, judged, cohorts)


def prepare_at_coordinator(
    coordinator: Coordinator, run_folder: Path, sources: CohortSources, *, name: str
) -> Iterator[PreparationEvent]:
    """Prepare a cohort that the coordinator holds, as a site prepares its own.

    Args:
        coordinator: The coordinator's folder; receives the prepared store.
        run_folder: The run, whose contract holds.
        sources: Where its files lie, and how they are read.
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
    return open_store(
        cohort_folder(coordinator, name),
        contract=contract,
        reading_sha256=sources.reading_sha256(),
    )


def cohort_folder(coordinator: Coordinator, name: str) -> Path:
    """Return where a prepared cohort of the coordinator lies."""
    return coordinator.folder / "cohorts" / name


def evaluate_run(
    run_folder: Path,
    held_out: PreparedCohort,
    references: Sequence[PreparedCohort],
) -> Verdict:
    """Judge a finished run's model and write evaluation.json and the risk maps.

    A run with a landmark is judged, and its baselines are fitted, on the patients as
    they were seen from it.

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
    _, release = load_release(run_folder / RELEASE_FOLDER)
    held_out = view_at_landmark(held_out, release.landmark_months)
    references = [view_at_landmark(one, release.landmark_months) for one in references]
    _check_held_out(run_folder, held_out)
    prediction = predict_cohort(model, held_out, loss=LossConfig())
    edges = np.asarray(model.config.bin_edges_months, dtype=np.float64)
    predictions = {MODEL_NAME: prediction.survival}
    known = [outcomes_of(one) for one in references if one.patients]
    training = join_outcomes(known) if known else None
    if training is not None:
        judged = outcomes_of(held_out)
        predictions |= predict_with_baselines(training, judged, edges)
    verdict = judge(
        time_months=prediction.time_months,
        event=prediction.event,
        predictions=predictions,
        bin_edges_months=edges,
        train_time_months=None if training is None else training.time_months,
        train_event=None if training is None else training.event,
        bootstrap_seed=run.seed,
        minimum_cell=run.minimum_cell,
        supported_months=release.supported_months,
        landmark_months=release.landmark_months,
    ).model_copy(
        update={
            "reading_sha256": held_out.reading_sha256,
            "references_reading_sha256": [one.reading_sha256 for one in references],
        }
    )
    write_held_out_maps(
        run_folder,
        model,
        held_out,
        survival=prediction.survival,
        supported_months=verdict.supported_months,
    )
    write_record(run_folder / EVALUATION_FILE, verdict)
    return verdict


def _check_held_out(run_folder: Path, held_out: PreparedCohort) -> None:
    contract = load_contract(run_folder / CONTRACT_FILE)
    accepted = {contract.sha256(), contract.without_imaging().sha256()}
    if held_out.contract.sha256() not in accepted:
        raise DataError(
            "data.contract_mismatch",
            f"The held-out cohort was prepared under another contract than the run "
            f"{run_folder.name}.",
            remedy=f"Prepare it under {run_folder / CONTRACT_FILE}.",
        )
    if not held_out.patients:
        raise DataError(
            "data.nothing_usable",
            "The held-out cohort has no patient that can be used, or none who was "
            "still free of the event at the run's landmark.",
            remedy="Look at what `evaluate` said of its table and images.",
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
