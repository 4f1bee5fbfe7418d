"""How a site trains in a round. Imports no torch: the server reads it as well."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from acfnet_core.config import Section

Schedule = Literal["constant", "cosine"]


class LocalTrainingSettings(Section):
    """The local work of one round, the same at every site.

    Every round starts a fresh AdamW: a site keeps no optimiser state between rounds, so
    a round depends on the global model, the site's patients, the seed and the round's
    place in the run alone.
    """

    local_epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the site's patients in a round; either this or `local_steps`."""
    local_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps in a round."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Patients in a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """The highest of the run."""
    schedule: Schedule = "constant"
    """How the learning rate goes over the whole run, all of its rounds."""
    warm_up_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run in which the learning rate rises to its highest."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the learning rate that a cosine ends at."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0
    """The mean gradient of a step is scaled down to at most this norm."""
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of a site's patients that judge when to stop, and are never trained on; 0
    leaves early stopping out."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Passes without a better validation loss after which a round ends early."""

    @model_validator(mode="after")
    def _one_measure_of_work(self) -> "LocalTrainingSettings":
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("give either local_epochs or local_steps, and one of them")
        return self
