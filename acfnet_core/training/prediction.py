"""What one or several trained models say of one patient of a prepared cohort.

Axes: ` bin` runs over the hazard's time bins, `year` over the virtual years,
`depth height width` over the grid on which scans are prepared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from acfnet_core.cohort.contract import CHANNELS, DataContract
from acfnet_core.cohort.dataset import collate_inputs
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedInputs
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, AcfNetOutput
from acfnet_core.model.risk_maps import upsample_risk_maps
from acfnet_core.training.batches import patient_inputs


@dataclass(frozen=True, kw_only=True)
class PredictedCurve:
    """The first model's values, and the lowest and highest of all models.

    Attributes:
        lowest: None where there is one model.
        highest: None where there is one model.
    """

    values: Float[np.ndarray, " bin"]
    lowest: Float[np.ndarray, " bin"] | None
    highest: Float[np.ndarray, " bin"] | None


@dataclass(frozen=True, kw_only=True)
class ScanUsed:
    """A scan that the model read.

    Attributes:
        time_months: From the resection; before it negative.
        time_assumed: The resection's date was not known, so the time is not either.
        channels: The contract's channels that the scan has.
    """

    time_months: float
    time_assumed: bool
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PatientPrediction:
    """What the models say of a patient, and what they were told.

    Attributes:
        bin_edges_months: Right edge of every bin.
        hazard: Probability of the event in a bin for who is free of it before.
        survival: Probability to be free of the event at a bin's right edge.
        cumulative_incidence: Probability of the event up to a bin's right edge.
        num_models: Models that were asked.
        range_words: What lowest and highest are, and what they are not.
        years: Last year for which each virtual year stands.
        image_share_by_year: The gate, as the mean over a year's bins: the share of the
            image logit in the mixed one.
        risk_maps: Of the first model, on the cohort's grid: each year's voxels sum to
            its image logit.
        risk_map_sums: The image logit of each year.
        has_image: Whether the first model read any scan.
        scans: What it read, earliest first.
        known_columns: Features whose value was known and read.
        missing_columns: The other features.
    """

    bin_edges_months: tuple[float, ...]
    hazard: PredictedCurve
    survival: PredictedCurve
    cumulative_incidence: PredictedCurve
    num_models: int
    range_words: str
    years: tuple[int, ...]
    image_share_by_year: Float[np.ndarray, " year"]
    risk_maps: Float32[np.ndarray, "year depth height width"]
    risk_map_sums: Float[np.ndarray, " year"]
    has_image: bool
    scans: tuple[ScanUsed, ...]
    known_columns: tuple[str, ...]
    missing_columns: tuple[str, ...]


def predict_patient(
    models: Sequence[AcfNet],
    cohort: PreparedCohort,
    patient: PreparedInputs,
    *,
    num_runs: int = 1,
) -> PatientPrediction:
    """Ask a final model, and the others for how far they differ, about one patient.

    Args:
        models: The first is the final model, which gives every value; the others are
            models of earlier rounds or of other runs.
        cohort: Prepared under the contract of the models.
        patient: One of the cohort's; an outcome is not needed and not read.
        num_runs: How many runs the models come from.

    Raises:
        ValueError: There is no model, the models have different time bins, or there
            are fewer models than runs.
        DataError: A prepared file is missing or damaged.
    """
    if not 1 <= num_runs <= len(models):
        raise ValueError(f"{len(models)} models cannot come from {num_runs} runs")
    edges = {model.config.bin_edges_months for model in models}
    if len(edges) != 1:
        raise ValueError(f"models must have the same time bins, found {len(edges)}")
    batch = collate_inputs(cohort, [patient])
    outputs = [
        _ask(model, patient_inputs(batch, _device_of(model))) for model in models
    ]
    final, config = outputs[0], models[0].config
    maps = upsample_risk_maps(final.risk_maps, cohort.grid_shape)
    gate = final.gate[0].reshape(config.num_virtual_years, -1).mean(dim=1)
    known, missing = _split_columns(cohort.contract, patient, config.reads_columns)
    return PatientPrediction(
        bin_edges_months=config.bin_edges_months,
        hazard=_curve([output.hazard for output in outputs]),
        survival=_curve([output.survival for output in outputs]),
        cumulative_incidence=_curve([o.cumulative_incidence for o in outputs]),
        num_models=len(models),
        range_words=describe_range(num_models=len(models), num_runs=num_runs),
        years=config.risk_map_years,
        image_share_by_year=_to_numpy(gate),
        risk_maps=maps[0].cpu().numpy(),
        risk_map_sums=_to_numpy(final.image_year_logits[0]),
        has_image=bool(final.has_image[0]),
        scans=_scans_used(patient) if config.reads_images else (),
        known_columns=known,
        missing_columns=missing,
    )


def describe_range(*, num_models: int, num_runs: int) -> str:
    """Say what the lowest and highest of some models are, and what they are not.

    >>> describe_range(num_models=1, num_runs=1)
    'one model: no range can be given'
    """
    if num_models == 1:
        return "one model: no range can be given"
    if num_runs == 1:
        return (
            f"lowest and highest of {num_models} models, the last rounds of one run; "
            "not a confidence interval: it understates the uncertainty"
        )
    return (
        f"lowest and highest of {num_models} models from {num_runs} runs; "
        "not a confidence interval: it understates the uncertainty"
    )


def _ask(model: AcfNet, inputs: PatientInputs) -> AcfNetOutput:
    """Predict without dropout; the model is left as it was found."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(inputs)
    finally:
        model.train(was_training)


def _device_of(model: AcfNet) -> torch.device:
    return next(model.parameters()).device


def _curve(values: Sequence[Float[Tensor, "1 bin"]]) -> PredictedCurve:
    """Collect one curve of every model."""
    stacked = np.stack([_to_numpy(one[0]) for one in values])
    if len(stacked) == 1:
        return PredictedCurve(values=stacked[0], lowest=None, highest=None)
    return PredictedCurve(
        values=stacked[0], lowest=stacked.min(axis=0), highest=stacked.max(axis=0)
    )


def _to_numpy(values: Float[Tensor, " value"]) -> Float[np.ndarray, " value"]:
    return values.cpu().numpy().astype(np.float64)


def _scans_used(patient: PreparedInputs) -> tuple[ScanUsed, ...]:
    return tuple(
        ScanUsed(
            time_months=scan.time_months,
            time_assumed=scan.time_assumed,
            channels=tuple(
                name
                for name, is_there in zip(CHANNELS, scan.channel_mask, strict=True)
                if is_there
            ),
        )
        for scan in patient.scans
    )


def _split_columns(
    contract: DataContract, patient: PreparedInputs, reads_columns: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the features that were known and read, and the others."""
    known: list[str] = []
    missing: list[str] = []
    position = 0
    for name in contract.features:
        is_known = reads_columns and bool(patient.clinical_mask[position])
        (known if is_known else missing).append(name)
        position += contract.columns[name].num_inputs
    return tuple(known), tuple(missing)
