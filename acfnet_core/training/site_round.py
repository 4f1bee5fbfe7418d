"""What a site does with a round's request: judge the global model, train it, answer.

The same function runs at a hospital, in a simulation and in a test, so that "one site
federated equals the same step done locally" can be checked bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from acfnet_core.cohort.store import PreparedCohort, summarise
from acfnet_core.errors import DataError, ProtocolError
from acfnet_core.federation.messages import (
    CohortCounts,
    RoundReply,
    RoundRequest,
    claim_about,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    NamedArrays,
    flatten,
    layout_of,
    sha256_of,
    unflatten,
)
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.evaluation import predict_cohort, site_metrics
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import LocalTrainingSettings

Settings = TypeVar("Settings", bound=BaseModel)

Sign = Callable[[UpdateClaim], str]
"""Signs an update's claim with the site's key; returns base64."""


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
) -> SiteAnswer:
    """Judge the global model on the site's patients and, if asked, train it further.

    Args:
        request: The server's request.
        base: The global parameters that came with it.
        cohort: The site's prepared patients.
        site: This site's name.
        device: Where to compute.
        sign: Signs the claim about the trained parameters.

    Raises:
        DataError: Another contract (`data.contract_mismatch`), or fewer patients than
            the contract's minimum cell (`data.too_few_patients`).
        ProtocolError: The parameters are not the announced ones
            (`protocol.malformed`), or they fit another model or the settings are not
            those of this version (`protocol.version_mismatch`).
    """
    started = monotonic()
    _check_cohort(request, cohort)
    loss = _read(LossConfig, request.loss)
    settings = _read(LocalTrainingSettings, request.training)
    model = _global_model(request, base, device)
    prediction = predict_cohort(model, cohort, loss=loss)
    num_steps, parameters = 0, None
    if request.trains:
        num_steps = _train(request, model, cohort, settings, loss, site)
        parameters = flatten(model_arrays(model))
    num_examples = len(cohort.patients)
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
        counts=cohort_counts(cohort),
        metrics=site_metrics(prediction, minimum_cell=cohort.contract.minimum_cell),
        seconds=monotonic() - started,
        signature=sign(claim),
    )
    return SiteAnswer(reply=reply, parameters=parameters)


def model_arrays(model: AcfNet) -> NamedArrays:
    """Return the trainable parameters as named float32 arrays on the CPU."""
    return {
        name: parameter.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, parameter in model.named_parameters()
    }


def load_arrays(model: AcfNet, arrays: NamedArrays) -> None:
    """Put named arrays into a model, in place.

    Raises:
        KeyError: An array of the model is absent.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))


def cohort_counts(cohort: PreparedCohort) -> CohortCounts:
    """Return the counts that may leave the site; null below the minimum cell."""
    summary = summarise(cohort)
    return CohortCounts(
        num_patients=summary.num_patients,
        num_events=summary.num_events,
        num_with_scans=summary.num_with_scans,
        num_scans=summary.num_scans,
    )


def _train(
    request: RoundRequest,
    model: AcfNet,
    cohort: PreparedCohort,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    site: str,
) -> int:
    """Train the model in place, seeded for this site and round; count the steps."""
    seed = derive_seed(request.seed, site, request.round)
    # Dropout draws from torch's own generator.
    torch.manual_seed(seed)
    steps = train_locally(model, cohort, settings=settings, loss=loss, seed=seed)
    return sum(1 for _ in steps)


def _check_cohort(request: RoundRequest, cohort: PreparedCohort) -> None:
    if cohort.contract.sha256() != request.contract_sha256:
        raise DataError(
            "data.contract_mismatch",
            "The site's data was prepared under another contract than the run's.",
            remedy="Ask the coordinator for the contract, then prepare the data again.",
        )
    minimum = cohort.contract.minimum_cell
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
