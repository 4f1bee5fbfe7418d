"""What a training step costs beside full 4D convolutions and MONAI's networks.

    python benchmarks/step_cost.py --write benchmarks/step-cost.md

Time is the processor time of one thread for forward, loss, backward, clipping and one
step of AdamW, the least of several; the networks take turns, so that whatever else the
machine does meets all alike. Memory is how far the resident memory of a fresh process
rises above what it had with network and batch in place. What is kept for the backward
pass is counted as well, by the part of the network that keeps it. MONAI:
`pip install monai`.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time

import torch
from rivals import (
    ALL_STAGES,
    DENSENET,
    FIRST_LAYER,
    NUM_COLUMNS,
    OURS,
    RESNET,
    SAME_PLACES,
    monai_networks,
    networks_of,
)
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acfnet_core.model.config import SIZES
from acfnet_core.model.inputs import PatientInputs, channels_beside
from acfnet_core.model.network import AcfNet, AcfNetOutput
from acfnet_core.objective.loss import LossConfig, survival_loss, total_loss

NUM_PATIENTS = 4
NUM_SCANS = 3
GRID = (32, 64, 64)
"""Voxels of a scan; DenseNet-121 halves each axis five times and needs 32."""
NUM_CHANNELS = 4
NUM_BINS = 16
MATRIX_SIZE = 1024
PARTS = ("stem", "stages", "attention", "rest")
TARGET_SIZE, TARGET_RATIO = "small", 0.5
"""What a size is asked to take of its full 4D counterpart's time and memory, at most.
"""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one training step of one network costs."""

    size: str
    network: str
    parameters: int
    seconds: float
    peak_mib: float
    gflop: float


class Step:
    """A network, its optimiser and a batch: calling it takes one training step."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.train()
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
        self.inputs = make_batch()
        if isinstance(network, AcfNet):
            # As batches are laid out in training; the others read them as they are.
            scans = channels_beside(self.inputs.scans)
            self.inputs = replace(self.inputs, scans=scans)
        self.time_bin = torch.tensor([3, 7, 12, 15])
        self.kind = torch.tensor([1, 0, 1, 1])

    def __call__(self) -> None:
        """Take one step."""
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(self.network(self.inputs)).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()

    def loss(self, output: AcfNetOutput | Tensor) -> Tensor:
        """Return ours for our networks, the survival term alone for others."""
        if isinstance(output, Tensor):
            bins = nn.functional.pad(output, (0, NUM_BINS - output.shape[1]))
            return survival_loss(bins, self.time_bin, self.kind).mean()
        return total_loss(
            output, time_bin=self.time_bin, kind=self.kind, config=LossConfig()
        ).mean


def make_batch() -> PatientInputs:
    """Make up patients with serial scans."""
    shape = (NUM_PATIENTS, NUM_SCANS, NUM_CHANNELS, *GRID)
    generator = torch.Generator().manual_seed(0)
    return PatientInputs(
        scans=torch.randn(shape, generator=generator),
        scan_time_months=torch.tensor([[-6.0, -3.0, -1.0]]).expand(NUM_PATIENTS, -1),
        scan_mask=torch.ones(shape[:2], dtype=torch.bool),
        channel_mask=torch.ones(shape[:3], dtype=torch.bool),
        clinical=torch.randn(NUM_PATIENTS, NUM_COLUMNS, generator=generator),
        clinical_mask=torch.ones(NUM_PATIENTS, NUM_COLUMNS, dtype=torch.bool),
    )


def measure(size: str, num_turns: int) -> Iterator[StepCost]:
    """Measure ours of one size and all that it is compared with."""
    builders = {
        **networks_of(size),
        **monai_networks(NUM_SCANS * NUM_CHANNELS, NUM_BINS),
    }
    steps = {name: Step(build()) for name, build in builders.items()}
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(num_turns):
        for name, step in steps.items():
            began = process_time()
            step()
            seconds[name] = min(seconds[name], process_time() - began)
    for name, step in steps.items():
        yield StepCost(
            size=size,
            network=name,
            parameters=sum(p.numel() for p in step.network.parameters()),
            seconds=seconds[name],
            peak_mib=_peak_in_fresh_process(size, name),
            gflop=_count_flop(step) / 1e9,
        )


def kept_by_part(network: AcfNet, inputs: PatientInputs) -> Counter[str]:
    """Count the bytes that a forward pass keeps for backward, by the part that does.

    A tensor that several keep counts for the first; the batch and the parameters, which
    are there in any case, do not count.
    """
    part, kept = "rest", Counter[str]()
    there = [inputs.scans, *network.parameters()]
    held = {tensor.untyped_storage().data_ptr(): tensor for tensor in there}
    parts = {network.stem: "stem", network.attention: "attention"}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in held:
            kept[part] += tensor.untyped_storage().nbytes()
            # Held until the end, or a later tensor could stand at the same address.
            held[address] = tensor
        return tensor

    def run(block: nn.Module, *given: Tensor) -> Tensor:
        nonlocal part
        part = parts.get(block, "stages")
        result = block(*given)
        part = "rest"
        return result

    network.run_block = run
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(inputs)
    return kept


def matrix_rate() -> float:
    """Return the flop a second of this machine's matrix product on one thread."""
    left, right = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE)
    best = float("inf")
    for _ in range(10):
        began = process_time()
        torch.mm(left, right)
        best = min(best, process_time() - began)
    return 2 * MATRIX_SIZE**3 / best


def rise_of_memory(size: str, name: str) -> float:
    """Return by how many MiB one step raises this process's resident memory."""
    builders = {
        **networks_of(size),
        **monai_networks(NUM_SCANS * NUM_CHANNELS, NUM_BINS),
    }
    step = Step(builders[name]())
    # getrusage would tell the peak of the process that started this one, if higher.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kib()
    step()
    return (_peak_kib() - before) / 1024


def render(costs: Sequence[StepCost], rate: float) -> Iterator[str]:
    """Yield the tables as markdown."""
    for size in dict.fromkeys(cost.size for cost in costs):
        by_name = {cost.network: cost for cost in costs if cost.size == size}
        yield f"\n## {size}\n"
        yield (
            "| network | parameters | ms a patient | MiB a batch | ours / it, time | "
            "ours / it, memory | share of the matrix rate |"
        )
        yield "|---|---|---|---|---|---|---|"
        yield from map(partial(_row, by_name, rate), by_name)
        if size == TARGET_SIZE:
            yield _verdict(by_name)


def render_kept(sizes: Sequence[str]) -> Iterator[str]:
    """Yield the table of what is kept for the backward pass as markdown."""
    yield "\n## Kept for the backward pass, MiB a batch\n"
    yield f"| size | network | {' | '.join(PARTS)} | all |"
    yield "|---|---|---|---|---|---|---|"
    for size in sizes:
        for name, build in networks_of(size).items():
            network = build()
            if not isinstance(network, AcfNet):
                continue
            kept = kept_by_part(network, Step(network).inputs)
            figures = [kept[part] / 2**20 for part in PARTS]
            cells = " | ".join(f"{mib:.1f}" for mib in [*figures, sum(figures)])
            yield f"| {size} | {name} | {cells} |"


def _row(by_name: Mapping[str, StepCost], rate: float, name: str) -> str:
    own, it = by_name[OURS], by_name[name]
    return (
        f"| {name} | {it.parameters:,} | {1e3 * it.seconds / NUM_PATIENTS:.1f} | "
        f"{it.peak_mib:.0f} | {own.seconds / it.seconds:.2f} | "
        f"{own.peak_mib / it.peak_mib:.2f} | {it.gflop * 1e9 / it.seconds / rate:.0%} |"
    )


def _verdict(by_name: Mapping[str, StepCost]) -> str:
    """Return what became of the target, for each that may be called counterpart."""
    own, lines = by_name[OURS], []
    for name in (SAME_PLACES, ALL_STAGES, FIRST_LAYER):
        it = by_name[name]
        time, memory = own.seconds / it.seconds, own.peak_mib / it.peak_mib
        outcome = "met" if max(time, memory) < TARGET_RATIO else "missed"
        lines.append(f"- {name}: {time:.2f} and {memory:.2f}, {outcome}")
    head = "The target is under half of the time and memory of the full 4D counterpart:"
    return "\n".join(("", head, "", *lines))


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _count_flop(step: Step) -> int:
    # Fused attention on a CPU is no product that the counter knows (torch 2.13).
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _peak_in_fresh_process(size: str, name: str) -> float:
    command = [sys.executable, __file__, "--memory-of", size, name]
    return min(
        float(json.loads(subprocess.check_output(command)))  # noqa: S603 - this file
        for _ in range(3)
    )


def _preface(rate: float) -> str:
    return f"""# Cost of a training step

`python benchmarks/step_cost.py --write benchmarks/step-cost.md`

- **Input**: a batch of {NUM_PATIENTS} patients with {NUM_SCANS} scans of {_grid()}
  voxels and {NUM_CHANNELS} channels; MONAI's networks get them as
  {NUM_SCANS * NUM_CHANNELS} channels. float32.
- **Machine**: one thread of {_processor()}, torch {torch.__version__}.
- **Time**: processor time of forward, loss, backward, clipping and AdamW, the least of
  several; the networks take turns.
- **Memory**: rise of a fresh process's resident memory in its first step, gradients and
  the optimiser's state included, the least of three.
- **Share of the matrix rate**: convolutions and matrix products alone, of the
  {rate / 1e9:.0f} Gflop/s at which that thread multiplies matrices of {MATRIX_SIZE} x
  {MATRIX_SIZE}; a convolution of many channels may be faster than that.

| network | what it is |
|---|---|
| {OURS} | the size as it is |
| {SAME_PLACES} | a full 4D convolution in place of the separable one |
| {ALL_STAGES} | one in every stage; a 4D kernel needs the virtual years, so they are \
made right behind the stem (`convolution = "full"`, `expand_at = "stem"`) |
| {FIRST_LAYER} | the same, and the years are made of the voxels: every layer works on \
years |
| {RESNET}, {DENSENET} | of the images alone: no time, no columns, no risk maps |

What *the* full 4D counterpart is can be argued, so there are three. Separating space \
and time saves a fifth of a step in the same places. It cannot save memory there: it \
keeps what the whole convolution keeps, its input and its output, and one volume \
between them. Together with what it allows, \
convolving scans in space before there are years, it about halves the time of a \
network that is 4D in all stages; a network that is 4D from its first layer costs \
three times as much, in time and in memory. The stem and the attention are the \
same in all, and are most of what remains."""


def _grid() -> str:
    return " x ".join(map(str, GRID))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", type=Path, help="markdown file to write")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--memory-of", nargs=2, metavar=("SIZE", "NETWORK"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        print(json.dumps(rise_of_memory(*options.memory_of)))
        return
    rate = matrix_rate()
    costs = [cost for size in options.sizes for cost in measure(size, options.turns)]
    lines = [*render(costs, rate), *render_kept(options.sizes)]
    text = "\n".join([_preface(rate), *lines]) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
