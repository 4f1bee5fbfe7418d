"""How a site trains in a round. Imports no torch: the server reads it as well."""

from typing import Annotated

from pydantic import Field, model_validator

from acfnet_core.config import Section


class LocalTrainingSettings(Section):
    """The local work of one round, the same at every site.

    Every round starts a fresh AdamW: a site keeps no optimiser state between rounds, so
    a round depends on the global model, the site's patients and the seed alone.
    """

    local_epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the site's patients in a round; either this or `local_steps`."""
    local_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps in a round."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Patients in a step."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0
    """The mean gradient of a step is scaled down to at most this norm."""

    @model_validator(mode="after")
    def _one_measure_of_work(self) -> "LocalTrainingSettings":
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("give either local_epochs or local_steps, and one of them")
        return self
