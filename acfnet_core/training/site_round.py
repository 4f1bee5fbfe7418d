"""What a site does with a round's request: judge the global model, train it, answer.

The same function runs at a hospital, in a simulation and in a test, so that "one site
federated equals the same step done locally" can be checked bit for bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.store import PreparedCohort, summarise
from acfnet_core.errors import DataError, ProtocolError
from acfnet_core.federation.messages import (
    CohortCounts,
    RoundReply,
    RoundRequest,
    claim_about,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    flatten,
    layout_of,
    sha256_of,
    unflatten,
)
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.objective.time_bins import num_at_risk, supported_bins
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.data_parallel import train_in_parallel
from acfnet_core.training.early_stopping import (
    LARGEST_BATCH,
    CohortParts,
    divide_cohort,
)
from acfnet_core.training.evaluation import predict_cohort, site_metrics
from acfnet_core.training.local_training import (
    StepFinished,
    TrainingEvent,
    train_locally,
)
from acfnet_core.training.model_arrays import load_arrays, model_arrays
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.schedule import RoundOfRun
from acfnet_core.training.settings import LocalTrainingSettings

Settings = TypeVar("Settings", bound=BaseModel)

Sign = Callable[[UpdateClaim], str]
"""Signs an update's claim with the site's key; returns base64."""
Watch = Callable[[TrainingEvent], None]
"""Is told what happens while training; nothing of it leaves the site."""


@dataclass(frozen=True, kw_only=True)
class SiteAnswer:
    """A site's reply and, when it trained, its parameters."""

    reply: RoundReply
    parameters: FlatParameters | None


def answer_round(
    request: RoundRequest,
    base: FlatParameters,
    cohort: PreparedCohort,
    *,
    site: str,
    device: torch.device,
    sign: Sign,
    compute: ComputeOptions | None = None,
    watch: Watch | None = None,
) -> SiteAnswer:
    """Judge the global model on the site's patients and, if asked, train it further.

    Args:
        request: The server's request.
        base: The global parameters that came with it.
        cohort: The site's prepared patients, without regard to the run's landmark.
        site: This site's name.
        device: Where to compute.
        sign: Signs the claim about the trained parameters.
        compute: How the site's machine trains; plainly if not given.
        watch: Is told what happens while training.

    Raises:
        DataError: Another contract (`data.contract_mismatch`), or fewer patients than
            the contract's minimum (`data.too_few_patients`), all of them or those
            of a validation part (`data.validation_too_small`).
        MachineError: The memory or a process failed while training.
        ProtocolError: The parameters are not the announced ones
            (`protocol.malformed`), or they fit another model or the settings are not
            those of this version (`protocol.version_mismatch`).
    """
    started = monotonic()
    # First of all: nothing later than the landmark may reach a count, figure or step.
    cohort = view_at_landmark(cohort, request.landmark_months)
    _check_cohort(request, cohort)
    loss = _read(LossConfig, request.loss)
    settings = _read(LocalTrainingSettings, request.training)
    model = _global_model(request, base, device)
    compute = compute or ComputeOptions()
    size = min(LARGEST_BATCH, compute.physical_batch_size or LARGEST_BATCH)
    prediction = predict_cohort(model, cohort, loss=loss, batch_size=size)
    num_steps, parameters, num_examples = 0, None, len(cohort.patients)
    if request.trains:
        parts = _divide(request, cohort, settings, site)
        num_examples = len(parts.training.patients)
        steps = _train(request, model, parts, settings, loss, site, compute)
        num_steps = _count_steps(steps, watch)
        parameters = flatten(model_arrays(model))
    parameters_sha256 = None if parameters is None else sha256_of(parameters)
    claim = claim_about(
        request,
        site=site,
        parameters_sha256=parameters_sha256,
        num_examples=num_examples,
    )
    reply = RoundReply(
        site=site,
        run=request.run,
        round=request.round,
        base_sha256=request.base_sha256,
        parameters_sha256=parameters_sha256,
        num_examples=num_examples,
        num_steps=num_steps,
        mapping_sha256=cohort.mapping_sha256,
        counts=cohort_counts(cohort, model.config),
        metrics=site_metrics(prediction, minimum_cell=cohort.contract.minimum_cell),
        seconds=monotonic() - started,
        signature=sign(claim),
    )
    return SiteAnswer(reply=reply, parameters=parameters)


def cohort_counts(cohort: PreparedCohort, config: AcfNetConfig) -> CohortCounts:
    """Return the counts that may leave the site; null below the minimum cell.

    Args:
        cohort: The site's patients.
        config: Whose time bins tell how long enough of them were followed.
    """
    summary = summarise(cohort)
    return CohortCounts(
        num_patients=summary.num_patients,
        num_events=summary.num_events,
        num_with_scans=summary.num_with_scans,
        num_scans=summary.num_scans,
        followed_months=_followed_months(cohort, config),
    )


def _followed_months(cohort: PreparedCohort, config: AcfNetConfig) -> float | None:
    """Return the right edge of the last bin with enough patients at risk."""
    times = [patient.time_months for patient in cohort.patients]
    at_risk = num_at_risk(
        torch.tensor(times, dtype=torch.float64),
        num_bins=config.num_bins,
        bin_width_months=config.bin_width_months,
    )
    num_bins = supported_bins(at_risk, minimum=cohort.contract.minimum_cell)
    return config.bin_edges_months[num_bins - 1] if num_bins else None


def _divide(
    request: RoundRequest,
    cohort: PreparedCohort,
    settings: LocalTrainingSettings,
    site: str,
) -> CohortParts:
    """Keep the validation part back: the same patients in all rounds of a run."""
    return divide_cohort(
        cohort,
        validation_share=settings.validation_share,
        seed=derive_seed(request.seed, site, "validation"),
    )


def _train(
    request: RoundRequest,
    model: AcfNet,
    parts: CohortParts,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    site: str,
    compute: ComputeOptions,
) -> Iterator[TrainingEvent]:
    """Train the model in place, seeded for this site and round."""
    seed = derive_seed(request.seed, site, request.round)
    # Dropout draws from torch's own generator.
    torch.manual_seed(seed)
    train = train_in_parallel if len(compute.devices) > 1 else train_locally
    return train(
        model,
        parts.training,
        settings=settings,
        loss=loss,
        seed=seed,
        validation=parts.validation,
        part=RoundOfRun(number=request.round, num_rounds=request.num_rounds),
        compute=compute,
    )


def _count_steps(events: Iterator[TrainingEvent], watch: Watch | None) -> int:
    """Work the training off, tell what happens, and count the optimiser's steps."""
    num_steps = 0
    for event in events:
        num_steps += isinstance(event, StepFinished)
        if watch is not None:
            watch(event)
    return num_steps


def _check_cohort(request: RoundRequest, cohort: PreparedCohort) -> None:
    if cohort.contract.sha256() != request.contract_sha256:
        raise DataError(
            "data.contract_mismatch",
            "The site's data was prepared under another contract than the run's.",
            remedy="Ask the coordinator for the contract, then prepare the data again.",
        )
    minimum = cohort.contract.fewest_patients
    if len(cohort.patients) < minimum:
        raise DataError(
            "data.too_few_patients",
            f"The site has fewer prepared patients than the {minimum} of the contract.",
            remedy="Add patients, or leave this site out of the run.",
        )


def _global_model(
    request: RoundRequest, base: FlatParameters, device: torch.device
) -> AcfNet:
    if sha256_of(base) != request.base_sha256:
        raise ProtocolError(
            "protocol.malformed",
            "The global parameters do not match the hash in the request.",
            remedy="Repeat the round; if it happens again, look for a network proxy.",
        )
    model = AcfNet(_read(AcfNetConfig, request.model))
    layout = layout_of(model_arrays(model))
    if layout.sha256() != request.layout_sha256 or base.size != layout.num_values:
        raise _other_version("The server's model has other arrays than this version's.")
    load_arrays(model, unflatten(base, layout))
    return model.to(device)


def _read(kind: type[Settings], content: dict[str, Any]) -> Settings:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _other_version(f"A {kind.__name__} does not fit this version.") from error


def _other_version(message: str) -> ProtocolError:
    return ProtocolError(
        "protocol.version_mismatch",
        message,
        remedy="Install the same acfnet version on both sides.",
    )
