from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from references.scan_cohorts import ScanCohort, make_scan_cohort
from references.site_rounds import small_model, train_briefly
from torch import Tensor

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.errors import MachineError
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, AcfNetOutput
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.augmentation import Augmentation
from acfnet_core.training.batches import make_batch
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.logical_step import (
    LogicalStep,
    PhysicalBatchReduced,
    is_out_of_memory,
)
from acfnet_core.training.settings import AugmentationSettings

CPU = torch.device("cpu")
INDICES = [4, 0, 7, 2, 5, 1, 6, 3]
CPU_ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 9 bytes."
)


@pytest.fixture(scope="module")
def cohort() -> ScanCohort:
    return make_scan_cohort(8, seed=3)


def make_step(
    cohort: ScanCohort, model: AcfNet, size: int, **changes: Any
) -> LogicalStep:
    content = {"forward": model, "physical_batch_size": size, **changes}
    return LogicalStep(model=model.train(), cohort=cohort, loss=LossConfig(), **content)


def gradients(model: AcfNet) -> dict[str, Tensor]:
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def plain_gradients(cohort: ScanCohort, model: AcfNet) -> dict[str, Tensor]:
    """The gradient of the mean of one batch, with nothing but torch."""
    batch = make_batch(cohort, INDICES, model.config, CPU)
    terms = total_loss(
        model.train()(batch.inputs),
        time_bin=batch.time_bin,
        kind=batch.kind,
        config=LossConfig(),
    )
    torch.autograd.backward(terms.total.mean())
    return gradients(model)


def without_dropout() -> AcfNet:
    return small_model(dropout=0.0, token_dropout=0.0)


class Failing:
    """A forward pass that fails the first times, as a full memory makes it."""

    def __init__(
        self, model: AcfNet, *, times: int, error: Callable[[], Exception]
    ) -> None:
        self.model, self.times, self.error = model, times, error

    def __call__(self, inputs: PatientInputs) -> AcfNetOutput:
        torch.rand(3)
        if self.times > 0:
            self.times -= 1
            raise self.error()
        return self.model(inputs)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 50])
def test_any_physical_batch_gives_the_gradient_of_the_logical_one(
    cohort: ScanCohort, size: int
) -> None:
    model = without_dropout()
    make_step(cohort, model, size).make_gradient(INDICES)
    found, expected = gradients(model), plain_gradients(cohort, without_dropout())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_physical_batch_of_all_gives_the_gradient_to_the_last_bit(
    cohort: ScanCohort,
) -> None:
    model = small_model()
    torch.manual_seed(5)
    make_step(cohort, model, 8).make_gradient(INDICES)
    found = gradients(model)
    torch.manual_seed(5)
    expected = plain_gradients(cohort, small_model())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_loss_is_the_mean_of_the_logical_batch(cohort: ScanCohort) -> None:
    losses = [
        make_step(cohort, without_dropout(), size).make_gradient(INDICES)
        for size in (8, 3)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    "error",
    [lambda: torch.OutOfMemoryError("CUDA"), lambda: CPU_ALLOCATOR, MemoryError],
    ids=["torch", "cpu allocator", "numpy"],
)
def test_a_full_memory_halves_the_physical_batch(
    cohort: ScanCohort, error: Callable[[], Exception]
) -> None:
    model = small_model()
    step = make_step(cohort, model, 8, forward=Failing(model, times=1, error=error))
    step.make_gradient(INDICES)
    assert step.physical_batch_size == 4


def test_a_repeated_step_equals_one_that_began_with_the_smaller_batch(
    cohort: ScanCohort,
) -> None:
    found = []
    for size, times in ((8, 1), (4, 0)):
        model = small_model()
        forward = Failing(model, times=times, error=torch.OutOfMemoryError)
        torch.manual_seed(1)
        make_step(cohort, model, size, forward=forward).make_gradient(INDICES)
        found.append(gradients(model))
    repeated, smaller = found
    assert all(torch.equal(repeated[name], smaller[name]) for name in smaller)


def test_a_memory_that_does_not_hold_one_patient_is_refused(
    cohort: ScanCohort,
) -> None:
    model = small_model()
    failing = Failing(model, times=99, error=torch.OutOfMemoryError)
    step = make_step(cohort, model, 8, forward=failing)
    with pytest.raises(MachineError, match="does not hold one patient") as caught:
        step.make_gradient(INDICES)
    assert caught.value.code == "machine.out_of_memory"
    assert 99 - failing.times == 4


def test_another_error_is_not_taken_for_a_full_memory(cohort: ScanCohort) -> None:
    model = small_model()
    failing = Failing(model, times=1, error=lambda: RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        make_step(cohort, model, 8, forward=failing).make_gradient(INDICES)


def test_a_message_of_another_kind_of_error_does_not_count() -> None:
    assert is_out_of_memory(CPU_ALLOCATOR)
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))


def test_training_with_a_full_memory_ends_where_a_smaller_batch_does(
    cohort: ScanCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller, short = small_model(), small_model()
    train_briefly(smaller, cohort, ComputeOptions(physical_batch_size=4))
    whole = AcfNet.forward

    def hold_four(self: AcfNet, inputs: PatientInputs) -> AcfNetOutput:
        if len(inputs.clinical) > 4:
            raise torch.OutOfMemoryError
        return whole(self, inputs)

    monkeypatch.setattr(AcfNet, "forward", hold_four)
    events = train_briefly(short, cohort, ComputeOptions())
    pairs = zip(smaller.parameters(), short.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert events[0] == PhysicalBatchReduced(before=8, after=4)
    kinds = [type(event) for event in events]
    assert kinds.count(PhysicalBatchReduced) == 1


def test_the_physical_batch_does_not_change_what_is_learnt(cohort: ScanCohort) -> None:
    found = []
    for size in (None, 2, 1):
        model = without_dropout()
        train_briefly(model, cohort, ComputeOptions(physical_batch_size=size))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    for one, other in pairwise(found):
        # AdamW's first steps have the size of the learning rate, 1e-3, whatever the
        # size of a gradient: where one is nearly 0 its rounding error shows.
        assert (one - other).abs().mean() < 1e-5


def test_changed_scans_do_not_depend_on_the_physical_batch(cohort: ScanCohort) -> None:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    shape = imaging.model_copy(update={"grid_shape": cohort.grid_shape})
    changer = Augmentation(settings=AugmentationSettings(), imaging=shape, seed=5)
    losses = [
        make_step(cohort, without_dropout(), size, augmentation=changer).make_gradient(
            INDICES, step=step
        )
        for size, step in ((8, 1), (1, 1), (8, 2))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)
