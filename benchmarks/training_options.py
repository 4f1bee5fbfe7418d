"""What each way of computing costs in a training step: time and memory, as a table.

    OMP_NUM_THREADS=1 python benchmarks/training_options.py [--processes]
    python benchmarks/training_options.py --device cuda --grid 32 64 64 --patients 16

Each row is a process of its own: 8 patients with 2 scans of 24x48x48 voxels, forward,
backward and AdamW's step, deterministic, one thread. The time is the shortest process
time of several steps after the first two; the memory is the largest resident set of the
process less what it was before the first step. The order is repeated backwards, and the
better of both is shown, so that a neighbour on the machine does not decide.

On a GPU the batch is made there once, the time is that of the clock with the GPU waited
for, and the memory is what torch had allocated there at most.

A second table has the same step shared by two processes over gloo, on the CPU. Several
processes or threads have no processor time in common, so it shows wall time, and needs
a machine with two idle cores.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic, process_time

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.inputs import PatientInputs, channels_beside
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training.compute import ComputeOptions, Forward, prepared
from acfnet_core.training.data_parallel import RankShare
from acfnet_core.training.reproducibility import make_deterministic

NUM_PATIENTS = 8
NUM_SCANS = 2
GRID = (24, 48, 48)
NUM_COLUMNS = 13
NUM_WARM_UP = 2
BYTES_OF_KIB = 1024
BYTES_OF_MIB = 2**20
COMPILE_LIMIT_S = 300

OPTIONS = {
    "plain float32": ComputeOptions(),
    "channels_last": ComputeOptions(channels_last=True),
    "bfloat16": ComputeOptions(precision="bfloat16"),
    "bfloat16, channels_last": ComputeOptions(precision="bfloat16", channels_last=True),
    "checkpointing": ComputeOptions(checkpointing=True),
    "physical batch of 4": ComputeOptions(physical_batch_size=4),
    "physical batch of 1": ComputeOptions(physical_batch_size=1),
    "compile": ComputeOptions(compile=True),
    "bfloat16, compile": ComputeOptions(precision="bfloat16", compile=True),
}
CPU_OPTIONS = [name for name in OPTIONS if name != "bfloat16, compile"]

PROCESSES = {
    "one process": (1, 1),
    "one process, two threads": (1, 2),
    "two processes (gloo)": (2, 1),
}
"""How many processes share a step, and how many threads each has."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step works on, and where."""

    num_patients: int = NUM_PATIENTS
    grid: tuple[int, int, int] = GRID
    device: str = "cpu"

    def part(self, start: int, most: int) -> PatientInputs:
        """Return a part of the step's patients; on a GPU they are there already."""
        number = min(most, self.num_patients - start)
        if self.device == "cpu":
            return draw_patients(number, self.grid)
        return drawn_on(self.device, number, self.grid)

    def wait(self) -> None:
        """Wait until the GPU has done what it was told."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def clock(self) -> float:
        """Return the time that counts, in seconds."""
        self.wait()
        return process_time() if self.device == "cpu" else monotonic()

    def peak_mib(self, before: int) -> float:
        """Return how much memory was taken since the beginning."""
        if self.device != "cpu":
            return torch.cuda.max_memory_allocated() / BYTES_OF_MIB
        return (peak_bytes() - before) / BYTES_OF_MIB


@cache
def drawn_on(
    device: str, num_patients: int, grid: tuple[int, int, int]
) -> PatientInputs:
    """Draw patients and bring them to a device, once."""
    drawn = draw_patients(num_patients, grid)
    return PatientInputs(
        **{key: value.to(device) for key, value in vars(drawn).items()}
    )


def draw_patients(
    num_patients: int, grid: tuple[int, int, int] = GRID
) -> PatientInputs:
    """Draw patients of whom everything is known."""
    generator = torch.Generator().manual_seed(0)
    scans = torch.randn(num_patients, NUM_SCANS, 4, *grid, generator=generator)
    return PatientInputs(
        scans=channels_beside(scans),
        scan_time_months=torch.tensor([[-1.0, 6.0]]).expand(num_patients, -1),
        scan_mask=torch.ones(num_patients, NUM_SCANS, dtype=torch.bool),
        channel_mask=torch.ones(num_patients, NUM_SCANS, 4, dtype=torch.bool),
        clinical=torch.randn(num_patients, NUM_COLUMNS, generator=generator),
        clinical_mask=torch.ones(num_patients, NUM_COLUMNS, dtype=torch.bool),
    )


def take_step(
    forward: Forward, optimiser: torch.optim.Optimizer, work: Work, physical: int
) -> None:
    """Take one step; patients are drawn part by part, as they would be loaded."""
    optimiser.zero_grad(set_to_none=True)
    for start in range(0, work.num_patients, physical):
        backward_part(forward, work.part(start, physical), work.num_patients)
    optimiser.step()


def backward_part(forward: Forward, part: PatientInputs, of_all: int) -> float:
    """Add the gradient of some of a step's patients; return their share of the loss."""
    number, device = len(part.scans), part.scans.device
    terms = total_loss(
        forward(part),
        time_bin=torch.full((number,), 3, device=device),
        kind=torch.ones(number, dtype=torch.long, device=device),
        config=LossConfig(),
    )
    loss = terms.total.sum() / of_all
    torch.autograd.backward(loss)
    return loss.item()


def measure(size: str, name: str, num_steps: int, work: Work) -> dict[str, float]:
    """Measure one row in this process."""
    make_deterministic(num_threads=1)
    options = OPTIONS[name]
    model = make_network(size).to(work.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    physical = options.physical_batch_size or work.num_patients
    before, started, times = resident_bytes(), monotonic(), []
    with prepared(model, options) as forward:
        for step in range(num_steps + NUM_WARM_UP):
            torch.manual_seed(step)
            begun = work.clock()
            take_step(forward, optimiser, work, physical)
            times.append(work.clock() - begun)
            if step == 0:
                first_s = monotonic() - started
    return {
        "seconds": min(times[NUM_WARM_UP:]),
        "first_s": first_s,
        "mib": work.peak_mib(before),
    }


def make_network(size: str) -> AcfNet:
    """Build a network that is ready to be trained."""
    config = AcfNetConfig.model_validate(
        {"num_clinical_features": NUM_COLUMNS, "size": size, "dropout": 0.0}
    )
    return build_model(config, seed=0).train()


def measure_rank(rank: int, size: str, name: str, num_steps: int, folder: str) -> None:
    """Measure one process's share of the steps; write its figures into the folder.

    Each process takes every n-th patient, and the gradients are summed once a step, as
    `RankShare` does it in training.
    """
    num_ranks, num_threads = PROCESSES[name]
    make_deterministic(num_threads=num_threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/met", rank=rank, world_size=num_ranks
    )
    share, model = RankShare(rank=rank, num_ranks=num_ranks), make_network(size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    number = len(share.of(range(NUM_PATIENTS)))
    before, walls, works = resident_bytes(), [], []
    for _ in range(num_steps + NUM_WARM_UP):
        dist.barrier()
        begun, worked = monotonic(), process_time()
        optimiser.zero_grad(set_to_none=True)
        loss = backward_part(model, draw_patients(number), NUM_PATIENTS)
        share.add_up(model, loss)
        optimiser.step()
        walls.append(monotonic() - begun)
        works.append(process_time() - worked)
    found = {
        "seconds": min(walls[NUM_WARM_UP:]),
        "worked": min(works[NUM_WARM_UP:]),
        "mib": (peak_bytes() - before) / BYTES_OF_MIB,
    }
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def measure_processes(size: str, name: str, num_steps: int) -> dict[str, float]:
    """Measure a step that processes share; of their figures the largest."""
    num_ranks, _ = PROCESSES[name]
    with tempfile.TemporaryDirectory() as folder:
        spawn(  # type: ignore[no-untyped-call]  # torch 2.13
            measure_rank, (size, name, num_steps, folder), nprocs=num_ranks
        )
        files = [Path(folder, f"rank-{rank}.json") for rank in range(num_ranks)]
        ranks = [json.loads(file.read_text()) for file in files]
    return {key: max(rank[key] for rank in ranks) for key in ranks[0]}


def table_of_processes(sizes: list[str], num_steps: int) -> Iterator[str]:
    """Yield the lines of the second table; the least of three runs in turn."""
    yield "| size | how | wall s a step | ratio | s a process | MiB a process | ratio |"
    yield "|---|---|---|---|---|---|---|"
    for size in sizes:
        runs = [
            {name: measure_processes(size, name, num_steps) for name in PROCESSES}
            for _ in range(3)
        ]
        least = {
            name: {key: min(run[name][key] for run in runs) for key in runs[0][name]}
            for name in PROCESSES
        }
        alone = least["one process"]
        for name, row in least.items():
            yield (
                f"| {size} | {name} | {row['seconds']:.3f} | "
                f"{row['seconds'] / alone['seconds']:.2f} | {row['worked']:.3f} | "
                f"{row['mib']:.0f} | {row['mib'] / alone['mib']:.2f} |"
            )


def resident_bytes() -> int:
    """Return how much memory this process has now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """Return the most memory that this process has had (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_KIB


def measure_apart(
    size: str, name: str, num_steps: int, work: Work
) -> dict[str, float] | None:
    """Measure one row in a process of its own; None if it takes too long."""
    command = [sys.executable, __file__, "--row", size, name, "--steps", str(num_steps)]
    command += ["--device", work.device, "--patients", str(work.num_patients)]
    command += ["--grid", *map(str, work.grid)]
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            command, capture_output=True, timeout=COMPILE_LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired:
        return None
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(
    sizes: list[str], names: list[str], num_steps: int, work: Work
) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| size | option | s a step | ratio | MiB | ratio | first step, s |"
    yield "|---|---|---|---|---|---|---|"
    for size in sizes:
        turns = [*names, *(n for n in reversed(names) if not OPTIONS[n].compile)]
        found: dict[str, dict[str, float] | None] = {}
        for name in turns:
            new, old = measure_apart(size, name, num_steps, work), found.get(name)
            found[name] = {k: min(new[k], old[k]) for k in new} if new and old else new
        plain = found["plain float32"]
        for name in names:
            row = found[name]
            if row is None or plain is None:
                yield f"| {size} | {name} | over {COMPILE_LIMIT_S} s | | | | |"
                continue
            yield (
                f"| {size} | {name} | {row['seconds']:.4f} | "
                f"{row['seconds'] / plain['seconds']:.2f} | {row['mib']:.0f} | "
                f"{row['mib'] / plain['mib']:.2f} | {row['first_s']:.1f} |"
            )


def main() -> None:
    """Print the table, or one row's figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"])
    parser.add_argument("--options", nargs="+", choices=OPTIONS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--patients", type=int, default=NUM_PATIENTS)
    parser.add_argument("--grid", nargs=3, type=int, default=GRID, metavar="VOXELS")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--row", nargs=2, metavar=("SIZE", "OPTION"))
    parser.add_argument("--processes", action="store_true", help="the second table")
    given = parser.parse_args()
    work = Work(
        num_patients=given.patients, grid=tuple(given.grid), device=given.device
    )
    names = given.options or (CPU_OPTIONS if given.device == "cpu" else list(OPTIONS))
    if given.row:
        lines = iter([json.dumps(measure(*given.row, given.steps, work))])
    elif given.processes:
        lines = table_of_processes(given.sizes, given.steps)
    else:
        lines = table(given.sizes, names, given.steps, work)
    for line in lines:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
