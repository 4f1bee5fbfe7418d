"""A site's own model after the run, beside the global one, on patients neither saw.

The patients that judge are the site's validation part: the same as in all rounds of the
run, and never trained on. The model stays at the site, as a release that
`load_model` and `acf-client predict` take.
"""

from pathlib import Path

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.messages import (
    ModelFigures,
    PersonalComparison,
    RoundRequest,
)
from acfnet_core.federation.release import save_release
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.evaluation import predict_cohort, site_metrics
from acfnet_core.training.model_arrays import model_arrays

PERSONAL_FOLDER = "personal"
"""Of a run's folder at the site: the release of its own model."""


def figures_of(
    model: AcfNet, validation: PreparedCohort, *, loss: LossConfig
) -> ModelFigures:
    """Return how a model does on the validation part, above the minimum cell."""
    prediction = predict_cohort(model, validation, loss=loss)
    metrics = site_metrics(prediction, minimum_cell=validation.contract.minimum_cell)
    return ModelFigures(loss=metrics.loss, harrell_c=metrics.harrell_c)


def compare(
    global_model: ModelFigures, own_model: ModelFigures, validation: PreparedCohort
) -> PersonalComparison:
    """Put the two beside each other; the number of events is not told once more."""
    num_patients = len(validation.patients)
    is_told = num_patients >= validation.contract.minimum_cell
    return PersonalComparison(
        num_patients=num_patients if is_told else None,
        global_model=global_model,
        own_model=own_model,
    )


def keep_own_model(
    request: RoundRequest,
    model: AcfNet,
    *,
    runs_folder: Path,
    supported_months: float | None,
) -> None:
    """Write the site's own model as a release, for its own use.

    Args:
        request: Of the run.
        model: The site's own.
        runs_folder: Where the site keeps a folder for each run.
        supported_months: How long enough of the site's patients were at risk.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    save_release(
        runs_folder / request.run / PERSONAL_FOLDER,
        model_arrays(model),
        run=request.run,
        model=model.config.model_dump(mode="json"),
        contract_sha256=request.contract_sha256,
        supported_months=supported_months,
        landmark_months=request.landmark_months,
    )
