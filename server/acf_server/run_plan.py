"""A run as it was resolved and stored: what the ServerApp works from.

The coordinator's `run.toml` becomes this once, at `acf-server run start`. It imports no
torch, since Flower starts the ServerApp in a process of its own.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from acfnet_core.config import Section, describe_faults
from acfnet_core.errors import ConfigError
from acfnet_core.federation.messages import LandmarkMonths, RunName, Sha256
from acfnet_core.files import write_atomically
from acfnet_core.identity.names import Name

PLAN_FILE = "plan.json"


class StrategySettings(Section):
    """How the sites' parameters become the next global model."""

    name: Literal["fedavg"] = "fedavg"
    max_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest weight of one site in the mean."""
    max_update_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    """An update with a larger Euclidean norm is refused."""
    max_examples: Annotated[int, Field(ge=1)] = 100_000
    """A site that claims more patients is refused."""
    release_members: Annotated[int, Field(ge=0, le=50)] = 4
    """Models of the last rounds before the final one that are released beside it."""


class RosterSite(Section):
    """A site of the run and the public key that its updates are signed with."""

    name: Name
    public_key_pem: str


class RunPlan(Section):
    """Everything that decides a run's result, but for the data."""

    format_version: Literal[1] = 1
    run: RunName
    sites: Annotated[tuple[RosterSite, ...], Field(min_length=1)]
    rounds: Annotated[int, Field(ge=1)]
    minimum_sites: Annotated[int, Field(ge=1)]
    round_timeout_s: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)]
    contract_sha256: Sha256
    model: dict[str, Any]
    loss: dict[str, Any]
    training: dict[str, Any]
    strategy: StrategySettings
    landmark_months: LandmarkMonths | None = None


def write_plan(run_folder: Path, plan: RunPlan) -> None:
    """Store the plan in the run's folder."""
    content = plan.model_dump_json(indent=2).encode()
    write_atomically(run_folder / PLAN_FILE, content)


def read_plan(run_folder: Path) -> RunPlan:
    """Read a stored plan.

    Raises:
        ConfigError: There is no plan, or it has faults.
    """
    path = run_folder / PLAN_FILE
    try:
        return RunPlan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            "config.run_not_found",
            f"{run_folder}: holds no readable {PLAN_FILE}.",
            remedy="Give the folder of a run that `acf-server run start` made.",
        ) from error
    except ValidationError as error:
        raise ConfigError(
            "config.invalid",
            "\n".join(describe_faults(error, where=PLAN_FILE, with_values=False)),
            remedy="Start the run again from its run.toml.",
        ) from error
