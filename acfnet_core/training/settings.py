"""How a site trains in a round. Imports no torch: the server reads it as well."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from acfnet_core.config import Section

Schedule = Literal["constant", "cosine"]
Optimiser = Literal["adamw", "sgd"]


class AugmentationSettings(Section):
    """How far a patient's scans are changed while training, the same at every site."""

    rotation_degrees: Annotated[float, Field(ge=0, le=45)] = 5.0
    """Largest turn about each axis."""
    scale_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Largest stretch: 0.05 is from 1/1.05 to 1.05."""
    shift_mm: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Largest shift along each axis."""
    gain_sd: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Standard deviation of the factor on a scan's HU."""
    offset_sd_hu: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Standard deviation of the shift of a scan's HU."""


class LocalTrainingSettings(Section):
    """The local work of one round, the same at every site.

    Every round starts a fresh optimiser: a site keeps no state of it between rounds, so
    a round depends on the global model, the site's patients, the seed and the round's
    place in the run alone; with some strategies also on what the site remembers for
    them.
    """

    local_epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the site's patients in a round; either this or `local_steps`."""
    local_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps in a round."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Patients in a step."""
    optimiser: Optimiser = "adamw"
    """`sgd` is plain: without momentum."""
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
    augmentation: AugmentationSettings | None = None
    """Small changes to the scans while training; left out, there are none."""
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


class PersonalisationSettings(Section):
    """How every site trains the final model further, for its own use."""

    local_epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the site's patients; either this or `local_steps`."""
    local_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """The same for all steps."""

    @model_validator(mode="after")
    def _one_measure_of_work(self) -> "PersonalisationSettings":
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("give either local_epochs or local_steps, and one of them")
        return self

    def work_after(self, training: LocalTrainingSettings) -> LocalTrainingSettings:
        """Return the work as the rounds' own, with what differs from them.

        Nobody judges when to stop: the validation part is to compare two models, and
        would favour the one that it chose.
        """
        return training.model_copy(
            update={
                "local_epochs": self.local_epochs,
                "local_steps": self.local_steps,
                "learning_rate": self.learning_rate,
                "schedule": "constant",
                "warm_up_share": 0.0,
                "validation_share": 0.0,
            }
        )
