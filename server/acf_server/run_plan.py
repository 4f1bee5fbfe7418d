"""A run as it was resolved and stored: what the ServerApp works from.

The coordinator's `run.toml` becomes this once, at `acf-server run start`. It imports no
torch, since Flower starts the ServerApp in a process of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from acfnet_core.config import Section, describe_faults
from acfnet_core.errors import ConfigError
from acfnet_core.federation.aggregation import Weighting
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import LandmarkMonths, RunName, Sha256
from acfnet_core.federation.strategies.robust_counts import (
    FEWEST_FOR_MEDIAN,
    fewest_sites_for_krum,
    fewest_sites_to_trim,
)
from acfnet_core.files import write_atomically
from acfnet_core.identity.names import Name
from acfnet_core.training.settings import (
    LocalTrainingSettings,
    PersonalisationSettings,
)

PLAN_FILE = "plan.json"


StrategyName = Literal[
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "scaffold",
    "median",
    "trimmed_mean",
    "multi_krum",
    "local_only",
]
SelectBy = Literal["last", "mean_loss", "worst_loss", "mean_c", "worst_c"]
_NEEDED = None
"""In place of a default where there is none that is right everywhere."""
_ADAPTIVE = {"server_learning_rate": 0.01, "tau": 1e-3}
_MOMENTS = {"beta_1": 0.9, "beta_2": 0.99}
PARAMETERS_OF: Mapping[str, Mapping[str, float | None]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": _NEEDED},
    "fedavgm": {"server_learning_rate": 1.0, "server_momentum": 0.9},
    "fedadam": _ADAPTIVE | _MOMENTS,
    "fedyogi": _ADAPTIVE | _MOMENTS,
    "fedadagrad": _ADAPTIVE,
    "scaffold": {"server_learning_rate": 1.0},
    "median": {},
    "trimmed_mean": {"trimmed_share": _NEEDED},
    "multi_krum": {"num_malicious": _NEEDED, "num_kept": _NEEDED},
    "local_only": {},
}
"""The parameters that are a strategy's own, with their defaults."""
WITHOUT_WEIGHTS: frozenset[StrategyName] = frozenset(
    {"scaffold", "median", "trimmed_mean", "local_only"}
)
"""These count every site the same."""
_HALF = 0.5
_CANNOT_BE_ENCODED: Mapping[str, str] = {
    "scaffold": "whose control variates must arrive as they are",
    "local_only": "which sends no update",
}
_WITHOUT_SPARSE: frozenset[StrategyName] = frozenset({"median", "trimmed_mean"})
"""At most coordinates most sites would send no change, and nothing else is taken."""


class StrategySettings(Section):
    """How the sites' parameters become the next global model.

    A parameter of another strategy is refused; one of this strategy that is left out
    gets its default, so that what is stored is complete. docs/strategies.md says what
    each does.
    """

    name: StrategyName = "fedavg"
    weighting: Weighting = "patients"
    """What a site's share of the mean follows from."""
    max_share: Annotated[float, Field(gt=0, le=1)] = _HALF
    """Largest weight of one site in the mean."""
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    """How far the server goes along the sites' mean update."""
    server_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the momentum that stays each round."""
    beta_1: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the mean update's moving average that stays each round."""
    beta_2: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of its square's moving average that stays each round."""
    tau: Annotated[float, Field(gt=0, le=1)] | None = None
    """Updates much smaller than this are not made larger."""
    proximal_mu: Annotated[float, Field(gt=0, le=1000)] | None = None
    """How strongly a site is held at the global parameters."""
    trimmed_share: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """Of the sites, left out at either end of each coordinate."""
    num_malicious: Annotated[int, Field(ge=0)] | None = None
    """Updates of a round that may be anything at all."""
    num_kept: Annotated[int, Field(ge=1)] | None = None
    """Updates that are averaged."""
    max_update_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    """An update with a larger Euclidean norm is refused."""
    max_examples: Annotated[int, Field(ge=1)] = 100_000
    """A site that claims more patients is refused."""
    release_members: Annotated[int, Field(ge=0, le=50)] = 4
    """Models of the last rounds before the final one that are released beside it."""
    select_by: SelectBy = "last"
    """Which round's model is released: the last, or the best by a figure that the sites
    told, which is of patients that were trained on."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Fill in the defaults of the strategy that is named."""
        name = content.get("name", "fedavg") if isinstance(content, dict) else None
        if not isinstance(name, str) or name not in PARAMETERS_OF:
            return content
        given = {key: content[key] for key in content if content[key] is not None}
        evenly = {"weighting": "equal"} if name in WITHOUT_WEIGHTS else {}
        return {**evenly, **PARAMETERS_OF[name], **given}

    @model_validator(mode="after")
    def _check_parameters(self) -> "StrategySettings":
        """Refuse what belongs to another strategy, and ask for what has no default."""
        own = PARAMETERS_OF[self.name]
        every = {key for parameters in PARAMETERS_OF.values() for key in parameters}
        given = {key for key in every if getattr(self, key) is not None}
        faults = [
            f"{key} belongs to {_owners(key)}, not to {self.name}"
            for key in sorted(given - own.keys())
        ]
        faults += [f"{self.name} needs {key}" for key in own if key not in given]
        if self.name in WITHOUT_WEIGHTS:
            if self.weighting != "equal":
                faults.append(f"{self.name} counts every site the same: no weighting")
            if self.max_share != _HALF:
                faults.append(f"{self.name} counts every site the same: no max_share")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def misfits(
        self, training: LocalTrainingSettings, *, minimum_sites: int
    ) -> list[str]:
        """Return what of the run the strategy cannot work with, in words.

        Args:
            training: The sites' local work.
            minimum_sites: The fewest updates of a round.
        """
        faults = []
        if self.name == "scaffold" and training.optimiser != "sgd":
            faults.append(
                'scaffold needs training.optimiser = "sgd": its corrections are means '
                f"of gradients (got {training.optimiser})"
            )
        fewest, why = self._fewest_sites()
        if minimum_sites < fewest:
            faults.append(
                f"{self.name} {why} needs {fewest} sites in a round; minimum_sites is "
                f"{minimum_sites}"
            )
        return faults

    def misfits_of_updates(self, updates: UpdateSettings) -> list[str]:
        """Return why updates cannot be encoded so under this strategy, in words."""
        if not updates.is_on:
            return []
        if self.name in _CANNOT_BE_ENCODED:
            why = _CANNOT_BE_ENCODED[self.name]
            return [f"updates.compression does not go with {self.name}, {why}"]
        if updates.compression == "top_k" and self.name in _WITHOUT_SPARSE:
            return [
                f"updates.compression top_k does not go with {self.name}: at most "
                "coordinates most sites would send no change"
            ]
        return []

    def _fewest_sites(self) -> tuple[int, str]:
        """Return how many updates a round needs, and because of what."""
        if self.name == "median":
            return FEWEST_FOR_MEDIAN, "(of two sites it is the mean)"
        if self.trimmed_share is not None:
            fewest = fewest_sites_to_trim(self.trimmed_share)
            return fewest, f"with trimmed_share {self.trimmed_share:g}"
        if self.num_malicious is not None and self.num_kept is not None:
            fewest = fewest_sites_for_krum(
                num_malicious=self.num_malicious, num_kept=self.num_kept
            )
            why = (
                f"with num_malicious {self.num_malicious} and num_kept {self.num_kept}"
            )
            return fewest, why
        return 1, ""


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
    minimum_cell: Annotated[int, Field(ge=1)] = 10
    """Of the contract: what a site weighs by events that may not tell how many."""
    personalise: PersonalisationSettings | None = None
    """How the sites train the final model further for themselves; null is not."""
    updates: UpdateSettings = UpdateSettings()
    """How the sites encode their updates."""


def _owners(parameter: str) -> str:
    """Name the strategies that have a parameter."""
    return ", ".join(n for n in PARAMETERS_OF if parameter in PARAMETERS_OF[n])


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
