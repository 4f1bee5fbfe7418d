"""The coordinator's `run.toml`: what a person writes, and how it becomes a plan."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from acf_server.run_files import DataOrigin
from acf_server.run_plan import RosterSite, RunPlan, StrategySettings
from acfnet_core.cohort.contract import DataContract
from acfnet_core.config import Section, describe_faults, read_settings
from acfnet_core.errors import ConfigError
from acfnet_core.federation.compression import UpdateSettings
from acfnet_core.federation.messages import LandmarkMonths, RunName
from acfnet_core.identity.names import Name
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.settings import (
    LocalTrainingSettings,
    PersonalisationSettings,
)


class RunSection(Section):
    """The run itself: what for, with whom, how long."""

    name: RunName
    study: Annotated[str, Field(min_length=1, max_length=300)]
    purpose: Annotated[str, Field(max_length=1000)] = ""
    sites: Annotated[tuple[Name, ...], Field(min_length=1)]
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    seed: Annotated[int, Field(ge=0)] = 0
    minimum_sites: Annotated[int, Field(ge=1)] | None = None
    """A round with fewer updates ends the run; unset, every site must answer."""
    round_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest wait for the sites to connect, and again for their answers."""
    landmark_months: LandmarkMonths | None = None
    """Months after the resection at which the model speaks, of those still free of the
    event then and by the scans up to then; unset, it speaks of all at the resection."""
    data_origin: DataOrigin = "consortium"
    """What the report says of the patients; `synthetic` shows a banner."""

    @model_validator(mode="after")
    def _check_sites(self) -> Self:
        if len(set(self.sites)) < len(self.sites):
            raise ValueError("a site is named twice")
        if self.minimum_sites is not None and self.minimum_sites > len(self.sites):
            raise ValueError(
                f"minimum_sites is {self.minimum_sites}, of {len(self.sites)} sites"
            )
        return self


class RunConfig(Section):
    """All of `run.toml`."""

    run: RunSection
    model: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of `AcfNetConfig`, but for the number of columns: the contract's."""
    loss: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of `LossConfig`."""
    training: LocalTrainingSettings
    strategy: StrategySettings = StrategySettings()
    updates: UpdateSettings = UpdateSettings()
    personalise: PersonalisationSettings | None = None
    """How every site trains the final model further for itself; left out, none does."""

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        """Refuse a strategy that the sites or their local work do not allow."""
        needed = self.run.minimum_sites or len(self.run.sites)
        faults = self.strategy.misfits(self.training, minimum_sites=needed)
        faults += self.strategy.misfits_of_updates(self.updates)
        if self.personalise is not None:
            faults += _misfits_of_personalising(self)
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _misfits_of_personalising(config: RunConfig) -> list[str]:
    """Return why the sites cannot have models of their own after the run."""
    faults = []
    if config.training.validation_share == 0:
        faults.append(
            "personalise needs training.validation_share above 0: both models are "
            "judged by patients whom no site trained on"
        )
    if config.strategy.name == "local_only":
        faults.append("personalise needs a global model; local_only makes none")
    return faults


def read_run_config(path: Path) -> RunConfig:
    """Read a `run.toml`.

    Raises:
        ConfigError: It does not exist, or has faults; all of them are listed.
    """
    return read_settings(path, RunConfig)


def resolve_model(config: RunConfig, contract: DataContract) -> AcfNetConfig:
    """Return the network's settings in full.

    Raises:
        ConfigError: The section [model] has faults.
    """
    counted = {"num_clinical_features": contract.num_clinical_features}
    if stated := counted.keys() & config.model.keys():
        raise ConfigError(
            "config.invalid",
            f"run.toml: [model]: {', '.join(stated)}: the data contract decides it.",
            remedy="Leave it out of run.toml.",
        )
    try:
        return AcfNetConfig.model_validate({**config.model, **counted})
    except ValidationError as error:
        raise _faults(error, "model") from error


def resolve_plan(
    config: RunConfig, contract: DataContract, public_keys: dict[str, str]
) -> RunPlan:
    """Return what the ServerApp works from.

    Args:
        config: The coordinator's run.
        contract: The study's data contract.
        public_keys: Site to public key in PEM, of every site of the run.

    Raises:
        ConfigError: The sections [model] or [loss] have faults.
    """
    try:
        loss = LossConfig.model_validate(config.loss)
    except ValidationError as error:
        raise _faults(error, "loss") from error
    run = config.run
    return RunPlan(
        run=run.name,
        sites=tuple(
            RosterSite(name=name, public_key_pem=public_keys[name])
            for name in run.sites
        ),
        rounds=run.rounds,
        minimum_sites=run.minimum_sites or len(run.sites),
        round_timeout_s=run.round_timeout_s,
        seed=run.seed,
        contract_sha256=contract.sha256(),
        model=resolve_model(config, contract).model_dump(mode="json"),
        loss=loss.model_dump(mode="json"),
        training=config.training.model_dump(mode="json"),
        strategy=config.strategy,
        updates=config.updates,
        landmark_months=run.landmark_months,
        minimum_cell=contract.minimum_cell,
        personalise=config.personalise,
    )


def _faults(error: ValidationError, section: str) -> ConfigError:
    return ConfigError(
        "config.invalid",
        "\n".join(
            describe_faults(error, where=f"run.toml: [{section}]", with_values=True)
        ),
        remedy=f"Correct the section [{section}] of run.toml.",
    )
