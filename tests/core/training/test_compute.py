import shutil
from itertools import product
from typing import Any

import pytest
import torch
from references.model_inputs import make_inputs, make_network, with_gaps
from torch import Tensor

from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, AcfNetOutput, call_block
from acfnet_core.training import compute as compute_module
from acfnet_core.training.compute import (
    ComputeOptions,
    Precision,
    prepared,
    refuse_unsound,
)
from acfnet_core.training.model_arrays import model_arrays

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
WAYS = [
    ComputeOptions(precision=precision, channels_last=last, checkpointing=again)
    for precision, last, again in product(PRECISIONS, (False, True), (False, True))
    if (precision, last, again) != ("float32", False, False)
]


@pytest.fixture(scope="module")
def inputs() -> PatientInputs:
    return with_gaps(make_inputs(), filler=0.0)


def network(**settings: Any) -> AcfNet:
    # Maps of 4x4x4 places: see `refuse_unsound` for what bfloat16 does to smaller.
    return make_network(reduction=(2, 4, 4), **settings).train()


def run(
    model: AcfNet, inputs: PatientInputs, options: ComputeOptions
) -> tuple[AcfNetOutput, list[Tensor]]:
    """One forward and backward pass: the output and the gradients."""
    with prepared(model, options) as forward:
        output = forward(inputs)
        torch.autograd.backward(output.hazard_logits.square().mean())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return output, gradients


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_way_gives_nearly_the_plain_gradient(
    inputs: PatientInputs, options: ComputeOptions
) -> None:
    _, plain = run(network(), inputs, ComputeOptions())
    _, found = run(network(), inputs, options)
    tolerance = 1e-4 if options.precision == "float32" else 0.1
    one, other = (torch.cat([g.flatten() for g in part]) for part in (plain, found))
    assert (one - other).norm() < tolerance * one.norm()


def test_checkpointing_changes_no_bit(inputs: PatientInputs) -> None:
    _, plain = run(network(), inputs, ComputeOptions())
    _, found = run(network(), inputs, ComputeOptions(checkpointing=True))
    assert all(map(torch.equal, plain, found))


def test_bfloat16_is_used(inputs: PatientInputs) -> None:
    plain, _ = run(network(), inputs, ComputeOptions())
    found, _ = run(network(), inputs, ComputeOptions(precision="bfloat16"))
    assert not torch.equal(plain.risk_maps, found.risk_maps)


def test_what_bfloat16_gives_is_float32(inputs: PatientInputs) -> None:
    output, _ = run(network(), inputs, ComputeOptions(precision="bfloat16"))
    kinds = {v.dtype for v in vars(output).values() if isinstance(v, Tensor)}
    assert kinds == {torch.float32, torch.bool}


def test_the_parameters_stay_float32(inputs: PatientInputs) -> None:
    model = network()
    _, gradients = run(model, inputs, ComputeOptions(precision="bfloat16"))
    assert {g.dtype for g in gradients} == {torch.float32}


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_model_is_plain_again_afterwards(
    inputs: PatientInputs, options: ComputeOptions
) -> None:
    model = network()
    run(model, inputs, options)
    assert model.run_block is call_block
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_model_is_plain_again_after_an_error() -> None:
    model = network()
    options = ComputeOptions(precision="bfloat16", channels_last=True)
    with pytest.raises(KeyError), prepared(model, options):
        raise KeyError
    assert model.run_block is call_block
    assert all(parameter.is_contiguous() for parameter in model.parameters())


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_what_does_not_train_is_computed_plainly(
    inputs: PatientInputs, options: ComputeOptions
) -> None:
    model = network().eval()
    plain = model(inputs)
    model.run_block = compute_module.BlockRunner(
        options.precision, options.checkpointing
    )
    assert torch.equal(plain.hazard, model(inputs).hazard)


def test_the_layout_does_not_show_in_the_arrays() -> None:
    model = network()
    before = sha256_of(flatten(model_arrays(model)))
    with prepared(model, ComputeOptions(channels_last=True)):
        strides = [p.is_contiguous() for p in model.parameters() if p.dim() == 5]
        inside = sha256_of(flatten(model_arrays(model)))
    assert not all(strides)
    assert inside == before


def test_checkpointing_keeps_less_for_the_backward_pass(inputs: PatientInputs) -> None:
    assert _num_kept(checkpointing=True) < 0.7 * _num_kept(checkpointing=False)


def test_bfloat16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="bfloat16") as caught:
        refuse_unsound(ComputeOptions(precision="bfloat16"), torch.device("cpu"))
    assert caught.value.code == "config.invalid"


@pytest.mark.parametrize(
    ("precision", "device"), [("bfloat16", "cuda"), ("float32", "cpu")]
)
def test_other_precisions_are_accepted(precision: Precision, device: str) -> None:
    refuse_unsound(ComputeOptions(precision=precision), torch.device(device))


def test_compiling_without_a_compiler_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with (
        pytest.raises(MachineError, match="no C\\+\\+ compiler") as caught,
        prepared(network(), ComputeOptions(compile=True)),
    ):
        pass
    assert caught.value.code == "machine.program_missing"


def _num_kept(*, checkpointing: bool) -> int:
    """Count the numbers that a forward pass keeps, each storage once."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    options = ComputeOptions(checkpointing=checkpointing)
    with (
        prepared(network(), options) as forward,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        forward(make_inputs())
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
