"""What must fit before a site works on a request: the data, the settings, the model."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError, ProtocolError
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import (
    FlatParameters,
    ParameterLayout,
    layout_of,
    sha256_of,
)
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.training.model_arrays import model_arrays

Settings = TypeVar("Settings", bound=BaseModel)


def check_cohort(request: RoundRequest, cohort: PreparedCohort) -> None:
    """Refuse data of another contract, and too few patients.

    Raises:
        DataError: `data.contract_mismatch` or `data.too_few_patients`.
    """
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


def read_section(kind: type[Settings], content: dict[str, Any]) -> Settings:
    """Read settings that came in a request.

    Raises:
        ProtocolError: They are not those of this version (`protocol.version_mismatch`).
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _other_version(f"A {kind.__name__} does not fit this version.") from error


def build_for(
    request: RoundRequest, base: FlatParameters
) -> tuple[AcfNet, ParameterLayout]:
    """Build the request's model, empty, after checking what came with it.

    Raises:
        ProtocolError: The vector is not the announced one (`protocol.malformed`), or it
            fits another model (`protocol.version_mismatch`).
    """
    if sha256_of(base) != request.base_sha256:
        raise ProtocolError(
            "protocol.malformed",
            "The global parameters do not match the hash in the request.",
            remedy="Repeat the round; if it happens again, look for a network proxy.",
        )
    model = AcfNet(read_section(AcfNetConfig, request.model))
    layout = layout_of(model_arrays(model))
    num_values = layout.num_values * request.local_strategy.num_vectors
    if layout.sha256() != request.layout_sha256 or base.size != num_values:
        raise _other_version("The server's model has other arrays than this version's.")
    return model, layout


def _other_version(message: str) -> ProtocolError:
    return ProtocolError(
        "protocol.version_mismatch",
        message,
        remedy="Install the same acfnet version on both sides.",
    )
