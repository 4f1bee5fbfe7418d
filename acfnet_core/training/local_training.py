"""One site's work of one round: some optimiser steps from the global model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

import torch
from torch.nn.utils import clip_grad_norm_

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.augmentation import Augmentation
from acfnet_core.training.batches import shuffled_batches
from acfnet_core.training.compute import ComputeOptions, prepared
from acfnet_core.training.early_stopping import (
    LARGEST_BATCH,
    BestParameters,
    validation_loss,
)
from acfnet_core.training.gradient_change import ChangedGradient, GradientChange
from acfnet_core.training.logical_step import (
    LogicalStep,
    PhysicalBatchReduced,
    Share,
    WholeBatch,
)
from acfnet_core.training.schedule import RoundOfRun, learning_rate_at
from acfnet_core.training.settings import LocalTrainingSettings


@dataclass(frozen=True, kw_only=True)
class StepFinished:
    """One optimiser step was taken; `loss` is its batch's mean before the step."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class PassValidated:
    """The validation part was judged; `pass_number` 0 is the model as received."""

    pass_number: int
    loss: float
    is_best: bool


TrainingEvent = StepFinished | PassValidated | PhysicalBatchReduced


def count_steps(settings: LocalTrainingSettings, num_patients: int) -> int:
    """Return how many optimiser steps a round has at a site of this size."""
    if settings.local_steps is not None:
        return settings.local_steps
    return (settings.local_epochs or 1) * steps_of_pass(settings, num_patients)


def steps_of_pass(settings: LocalTrainingSettings, num_patients: int) -> int:
    """Return how many steps visit every patient once."""
    return ceil(num_patients / settings.batch_size)


def train_locally(
    model: AcfNet,
    cohort: PreparedCohort,
    *,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    seed: int,
    validation: PreparedCohort | None = None,
    part: RoundOfRun | None = None,
    compute: ComputeOptions | None = None,
    share: Share | None = None,
    change: GradientChange | None = None,
) -> Iterator[TrainingEvent]:
    """Train `model` in place on a site's patients; yield an event after every step.

    Args:
        model: The global model; holds the local one when the iterator is exhausted.
        cohort: The patients to train on.
        settings: The local work of a round.
        loss: Weights of the loss terms.
        seed: Decides the order of the patients; from `derive_seed`.
        validation: Patients that judge after every pass, from `divide_cohort`: the
            parameters that do best on them are what is left in the model, the received
            ones included, and `settings.patience` passes without a better loss end the
            training.
        part: Which round of how many this is; the only one if not given.
        compute: How the machine computes; plainly if not given.
        share: This process's share of each step, where several work together.
        change: What the run's strategy does to each gradient.

    Raises:
        ValueError: The settings have a validation share and nobody was kept back.
        DataError: There is no patient.
        MachineError: The memory does not hold one patient (`machine.out_of_memory`).
    """
    if settings.validation_share > 0 and validation is None:
        raise ValueError(
            "validation_share is above 0: divide the patients with divide_cohort and "
            "give its validation part"
        )
    _require_patients(cohort)
    compute = compute or ComputeOptions()
    with prepared(model, compute) as forward:
        size = compute.physical_batch_size or settings.batch_size
        work = _RoundOfWork(
            step=LogicalStep(
                model=model,
                forward=forward,
                cohort=cohort,
                loss=loss,
                physical_batch_size=min(size, settings.batch_size),
                share=share or WholeBatch(),
                augmentation=_augmentation_of(settings, cohort, seed),
            ),
            settings=settings,
            part=part or RoundOfRun(),
            validation=validation,
            change=change or GradientChange(),
        )
        yield from work.run(seed)


@dataclass
class _RoundOfWork:
    """The steps of one round, and the judgements between them."""

    step: LogicalStep
    settings: LocalTrainingSettings
    part: RoundOfRun
    validation: PreparedCohort | None
    change: GradientChange
    changed: ChangedGradient = field(init=False)
    best: BestParameters = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        model = self.step.model
        self.best = BestParameters(model)
        self.changed = ChangedGradient(model, self.change)
        kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        self.optimiser = kinds[self.settings.optimiser](
            model.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )

    def run(self, seed: int) -> Iterator[TrainingEvent]:
        """Train, judge after every pass, and leave the best parameters."""
        settings, num_patients = self.settings, len(self.step.cohort.patients)
        num_steps = count_steps(settings, num_patients)
        each_pass = steps_of_pass(settings, num_patients)
        generator = torch.Generator().manual_seed(seed)
        batches = shuffled_batches(num_patients, settings.batch_size, generator)
        self.step.model.train()
        yield from self._judge(0)
        for number in range(1, num_steps + 1):
            yield from self._take_step(number, num_steps, next(batches))
            if number % each_pass == 0 or number == num_steps:
                yield from self._judge(ceil(number / each_pass))
            if self.best.num_worse >= settings.patience:
                break
        if self.validation is not None:
            self.best.restore()

    def _take_step(
        self, number: int, num_steps: int, indices: list[int]
    ) -> Iterator[TrainingEvent]:
        before = self.step.physical_batch_size
        loss = self.step.make_gradient(indices, step=number)
        if self.step.physical_batch_size < before:
            yield PhysicalBatchReduced(
                before=before, after=self.step.physical_batch_size
            )
        self.changed.before_clipping()
        parameters = self.step.model.parameters()
        clip_grad_norm_(parameters, self.settings.max_grad_norm)
        self.changed.after_clipping()
        rate = learning_rate_at(self.part.progress(number, num_steps), self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        yield StepFinished(
            step=number, num_steps=num_steps, loss=loss, learning_rate=rate
        )

    def _judge(self, pass_number: int) -> Iterator[PassValidated]:
        if self.validation is None:
            return
        share, loss = self.step.share, 0.0
        if share.judges:
            size = min(self.step.physical_batch_size, LARGEST_BATCH)
            loss = validation_loss(
                self.step.model, self.validation, batch_size=max(size, 1)
            )
        loss = share.agree(loss)
        is_best = self.best.judge(loss)
        yield PassValidated(pass_number=pass_number, loss=loss, is_best=is_best)


def _augmentation_of(
    settings: LocalTrainingSettings, cohort: PreparedCohort, seed: int
) -> Augmentation | None:
    imaging = cohort.contract.imaging
    if settings.augmentation is None or imaging is None:
        return None
    return Augmentation(settings=settings.augmentation, imaging=imaging, seed=seed)


def _require_patients(cohort: PreparedCohort) -> None:
    if not cohort.patients:
        raise DataError(
            "data.nothing_usable",
            "The prepared cohort has no patients to train on.",
            remedy="Run `acf-client data check` to see why, then prepare again.",
        )
