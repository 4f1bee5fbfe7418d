"""The gradient of one step: a logical batch, worked off in physical ones.

The loss is a mean over patients and no term couples two of them, so the gradient of a
batch of n is the sum of those of its parts, each of the sum of its patients' losses
divided by n. A batch that is too big for the memory is therefore split without changing
what is computed; so is a batch that several processes share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import MachineError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.augmentation import Augmentation
from acfnet_core.training.batches import make_batch
from acfnet_core.training.compute import Forward
from acfnet_core.training.reproducibility import RandomState

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory")
"""What says so in a RuntimeError of an allocator that has no error of its own."""


@dataclass(frozen=True, kw_only=True)
class PhysicalBatchReduced:
    """The memory did not hold `before` patients; from now on it takes `after`."""

    before: int
    after: int


@runtime_checkable
class Share(Protocol):
    """What one process has of every step: all of it, or a part beside others."""

    def of(self, indices: Sequence[int]) -> list[int]:
        """Return this process's patients of a logical batch; there may be none."""

    def add_up(self, model: nn.Module, loss: float) -> float:
        """Sum the gradients, in place, and the loss over all processes."""

    def agree(self, value: float) -> float:
        """Return one value for all processes: that of the first."""

    @property
    def judges(self) -> bool:
        """Whether this process measures the validation loss for all of them."""


class WholeBatch:
    """One process that does everything."""

    judges = True

    def of(self, indices: Sequence[int]) -> list[int]:
        """Return all patients."""
        return list(indices)

    def add_up(self, model: nn.Module, loss: float) -> float:
        """Return the loss as it is: there is nobody else."""
        del model
        return loss

    def agree(self, value: float) -> float:
        """Return the value as it is."""
        return value


@dataclass(kw_only=True)
class LogicalStep:
    """Makes the gradient of logical batches, and remembers what the memory holds."""

    model: AcfNet
    forward: Forward
    cohort: PreparedCohort
    loss: LossConfig
    physical_batch_size: int
    share: Share = field(default_factory=WholeBatch)
    augmentation: Augmentation | None = None

    def make_gradient(self, indices: Sequence[int], *, step: int = 1) -> float:
        """Put the gradient of the mean loss of some patients on the parameters.

        Where the memory does not hold the physical batch, it is halved, the random
        state is taken back, and the step is repeated.

        Args:
            indices: The logical batch, of all processes together.
            step: Its number in the round, from 1.

        Returns:
            The mean loss of the logical batch.

        Raises:
            MachineError: The memory does not hold one patient
                (`machine.out_of_memory`).
        """
        own = self.share.of(indices)
        before = RandomState.take(next(self.model.parameters()).device)
        while (loss := self._try(own, len(indices), step)) is None:
            self._reduce(len(own))
            before.restore()
        return self.share.add_up(self.model, loss)

    def _try(self, own: Sequence[int], num_patients: int, step: int) -> float | None:
        """Accumulate this process's gradient; None if the memory did not hold it."""
        self.model.zero_grad(set_to_none=True)
        try:
            return sum(
                self._backward(
                    own[start : start + self.physical_batch_size], num_patients, step
                )
                for start in range(0, len(own), self.physical_batch_size)
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _backward(self, indices: Sequence[int], num_patients: int, step: int) -> float:
        """Add the gradient of a physical batch; return its share of the mean loss."""
        device = next(self.model.parameters()).device
        batch = make_batch(self.cohort, indices, self.model.config, device)
        inputs = batch.inputs
        if self.augmentation is not None:
            inputs = self.augmentation.change(inputs, indices, step=step)
        terms = total_loss(
            self.forward(inputs),
            time_bin=batch.time_bin,
            kind=batch.kind,
            config=self.loss,
        )
        mean = terms.total.sum() / num_patients
        mean.backward()  # type: ignore[no-untyped-call]  # torch 2.13
        return mean.item()

    def _reduce(self, num_patients: int) -> None:
        """Halve the physical batch, of which no step has more than its patients."""
        self.model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        held = min(self.physical_batch_size, num_patients)
        if held == 1:
            raise MachineError(
                "machine.out_of_memory",
                "The memory does not hold one patient's training step.",
                remedy="Set compute.checkpointing to true in site.toml, end other "
                "programs, or use a machine with more memory.",
            )
        self.physical_batch_size = held // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _OUT_OF_MEMORY
    )
