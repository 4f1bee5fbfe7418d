"""How a machine computes: options that belong to a site, not to a run.

They change speed and memory, and the last digits of a result; bfloat16 changes more
than those. They hold while training: what predicts or judges computes plainly.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, AcfNetOutput, call_block

Precision = Literal["float32", "bfloat16"]
Forward = Callable[[PatientInputs], AcfNetOutput]

_VOLUME_AXES = 5
"""Axes of a Conv3d's weight, the only parameter that has a layout to choose."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """What a site's machine does while it trains.

    Attributes:
        precision: Of the image branch's blocks; their results, the fusion, the head and
            the losses are float32 in any case.
        channels_last: Keep the channels of a volume beside each other in memory.
        compile: Let torch.compile make kernels of the network.
        checkpointing: Compute the image branch's blocks again in the backward pass
            instead of keeping what they had inside.
        physical_batch_size: Most patients in memory at once; None takes all of a step.
        devices: Two or more share each step, a process for each; otherwise empty.
    """

    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    physical_batch_size: int | None = None
    devices: tuple[torch.device, ...] = ()


@dataclass(frozen=True)
class BlockRunner:
    """Runs a block of the image branch; see `AcfNet.run_block`."""

    precision: Precision
    checkpointing: bool

    def __call__(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """Run the block, plainly unless it is training."""
        if not block.training:
            return call_block(block, *inputs)
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self._run, block, *inputs, use_reentrant=False)
        return self._run(block, *inputs)

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if self.precision == "float32":
            return call_block(block, *inputs)
        with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16):
            return call_block(block, *inputs).float()


def refuse_unsound(options: ComputeOptions, device: torch.device) -> None:
    """Refuse options that give wrong numbers on a device.

    On a CPU with AVX-512 the bfloat16 convolution of torch 2.13 leaves parts of its
    weight's gradient unwritten where a volume is two places deep: memory's old content
    becomes the gradient. It was slower than float32 there as well.

    Raises:
        ConfigError: bfloat16 is asked for on a CPU.
    """
    if options.precision == "bfloat16" and device.type == "cpu":
        raise ConfigError(
            "config.invalid",
            "site.toml: compute.precision is 'bfloat16', which is not sound on a CPU.",
            remedy='Set compute.precision to "float32", or compute.device to a GPU.',
        )


@contextmanager
def prepared(model: AcfNet, options: ComputeOptions) -> Iterator[Forward]:
    """Prepare a model for training, and make it plain again in the end.

    Yields:
        What to call for a forward pass; the parameters stay those of `model`.

    Raises:
        MachineError: torch.compile needs a C++ compiler and there is none
            (`machine.program_missing`).
    """
    if options.compile:
        _require_compiler(next(model.parameters()).device)
    if options.precision != "float32" or options.checkpointing:
        model.run_block = BlockRunner(options.precision, options.checkpointing)
    if options.channels_last:
        _lay_out(model, torch.channels_last_3d)
    try:
        yield torch.compile(model) if options.compile else model
    finally:
        model.run_block = call_block
        if options.channels_last:
            _lay_out(model, torch.contiguous_format)


def _lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    for parameter in model.parameters():
        if parameter.dim() == _VOLUME_AXES:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _require_compiler(device: torch.device) -> None:
    """Refuse early: torch's own error comes with the first step, and is long."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if device.type == "cpu" and not any(name and shutil.which(name) for name in names):
        raise MachineError(
            "machine.program_missing",
            "site.toml: compute.compile is true, and there is no C++ compiler.",
            remedy="Install g++, or set compute.compile to false.",
        )
