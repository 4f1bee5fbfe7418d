"""Training on several devices of one machine: a process for each, one common step.

Each process, a rank, holds the whole model and takes its share of every logical batch.
The gradients are summed once a step in a single collective operation; then every rank
takes the same optimiser step. This is what torch's DistributedDataParallel does, but
for its sums during the backward pass: with less than a million parameters there is
nothing to hide behind it, and a rank whose share is empty, has no image, or must be
repeated with a smaller physical batch would leave the others waiting in the middle.

The sum is exact for unequal shares: a rank's loss is the sum over its patients divided
by the number of all. Dropout is drawn by each rank for itself, so the result equals
that of one process only without it, and up to the order of sums.

The ranks meet in a file of a private folder and speak over the loopback interface.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    spawn,
)

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import AcfnetError, MachineError
from acfnet_core.federation.parameters import NamedArrays
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.gradient_change import GradientChange
from acfnet_core.training.local_training import TrainingEvent, train_locally
from acfnet_core.training.model_arrays import load_arrays, model_arrays
from acfnet_core.training.reproducibility import derive_seed, make_deterministic
from acfnet_core.training.schedule import RoundOfRun
from acfnet_core.training.settings import LocalTrainingSettings

_POLL_S = 0.05
_GRACE_S = 2.0
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True, kw_only=True)
class RankShare:
    """Every `num_ranks`-th patient of a batch, and sums over the process group."""

    rank: int
    num_ranks: int

    @property
    def judges(self) -> bool:
        """Whether this is the first rank."""
        return self.rank == 0

    def of(self, indices: Sequence[int]) -> list[int]:
        """Return this rank's patients; none where there are fewer than ranks."""
        return list(indices[self.rank :: self.num_ranks])

    def add_up(self, model: nn.Module, loss: float) -> float:
        """Sum the gradients and the loss in one operation.

        A parameter without a gradient at every rank is left without one: AdamW would
        otherwise decay it, which it does not where one process trains alone.
        """
        parameters = list(model.parameters())
        own = torch.tensor(
            [*(float(p.grad is not None) for p in parameters), loss],
            device=parameters[0].device,
        )
        values = [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in parameters
        ]
        everything = torch.cat([*values, own])
        dist.all_reduce(everything)
        sizes = [*(p.numel() for p in parameters), len(parameters), 1]
        *gradients, has_gradient, total = torch.split(everything, sizes)
        triples = zip(parameters, gradients, has_gradient.tolist(), strict=True)
        for parameter, gradient, num_ranks in triples:
            parameter.grad = gradient.view_as(parameter) if num_ranks else None
        return total.item()

    def agree(self, value: float) -> float:
        """Return the first rank's value."""
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        told = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(told, src=0)
        return told.item()


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What a rank is given; everything in it can cross into a process."""

    config: AcfNetConfig
    arrays: NamedArrays
    training: dict[str, Any]
    seed: int
    devices: tuple[str, ...]
    meeting_place: str
    num_threads: int
    is_deterministic: bool


def train_in_parallel(
    model: AcfNet,
    cohort: PreparedCohort,
    *,
    settings: LocalTrainingSettings,
    loss: LossConfig,
    seed: int,
    compute: ComputeOptions,
    validation: PreparedCohort | None = None,
    part: RoundOfRun | None = None,
    change: GradientChange | None = None,
) -> Generator[TrainingEvent, None, None]:
    """Train as `train_locally` does, on all of `compute.devices` together.

    The processes are ended when the iterator is exhausted or closed, and by the kernel
    should this process be killed (Linux).

    Raises:
        MachineError: A process ended by itself (`machine.process_died`), or the memory
            does not hold one patient (`machine.out_of_memory`).
        AcfnetError: What `train_locally` raises, in any of the processes.
    """
    training = {
        "cohort": cohort,
        "settings": settings,
        "loss": loss,
        "validation": validation,
        "part": part,
        "compute": replace(compute, devices=()),
        "change": change,
    }
    with tempfile.TemporaryDirectory(prefix="acfnet-ranks-") as folder:
        work = _Work(
            config=model.config,
            arrays=model_arrays(model),
            training=training,
            seed=seed,
            devices=tuple(map(str, compute.devices)),
            meeting_place=f"file://{Path(folder) / 'meeting'}",
            num_threads=torch.get_num_threads(),
            is_deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        with closing(_run_ranks(work)) as everything_told:
            for told in everything_told:
                if isinstance(told, TrainingEvent):
                    yield told
                else:
                    load_arrays(model, told)


def _run_ranks(work: _Work) -> Generator[TrainingEvent | NamedArrays, None, None]:
    """Start the ranks, yield what the first says, and leave no process behind."""
    queue: SimpleQueue[Any] = get_context("spawn").SimpleQueue()
    ranks = spawn(  # type: ignore[no-untyped-call]  # torch 2.13
        _train_as_rank, (work, queue), nprocs=len(work.devices), join=False
    )
    has_ended = False
    try:
        while not has_ended:
            has_ended = ranks.join(timeout=_POLL_S, grace_period=_GRACE_S)
            yield from _drain(queue)
    except (ProcessExitedException, ProcessRaisedException) as error:
        yield from _drain(queue)
        # The text of a rank's exception is not told on: it may quote a patient's value.
        raise MachineError(
            "machine.process_died",
            f"The training process of {work.devices[error.error_index]} ended before "
            "its work was done.",
            remedy="Look whether the machine ran out of memory; with one device in "
            "compute.devices the round does not depend on several processes.",
        ) from None
    finally:
        for process in ranks.processes:
            process.kill()
            process.join()
        queue.close()


def _drain(queue: "SimpleQueue[Any]") -> Iterator[TrainingEvent | NamedArrays]:
    """Yield what has been said; raise an error that a rank has told."""
    while not queue.empty():
        told = queue.get()
        if isinstance(told, AcfnetError):
            raise told
        yield told


def _train_as_rank(rank: int, work: _Work, queue: "SimpleQueue[Any]") -> None:
    """Do one rank's part: the life of its process."""
    # The kernel sends SIGINT when the parent was killed. Python's own handler would
    # not run in a rank that waits for a sum.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _LOOPBACK)
    device = torch.device(work.devices[rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if work.is_deterministic:
        make_deterministic(num_threads=work.num_threads)
    else:
        torch.set_num_threads(work.num_threads)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=work.meeting_place,
        rank=rank,
        world_size=len(work.devices),
    )
    try:
        _train(rank, work, queue, device)
    except AcfnetError as error:
        queue.put(error)
        raise SystemExit(error.exit_status) from None
    dist.destroy_process_group()
    # A thread of torch that is still there when the interpreter ends aborts the
    # process, as if its work had not been done. All has been told.
    os._exit(0)


def _train(
    rank: int, work: _Work, queue: "SimpleQueue[Any]", device: torch.device
) -> None:
    model = AcfNet(work.config)
    load_arrays(model, work.arrays)
    model.to(device)
    # The order of the patients is one for all; what dropout draws is each rank's own.
    torch.manual_seed(derive_seed(work.seed, "rank", rank) if rank else work.seed)
    share = RankShare(rank=rank, num_ranks=len(work.devices))
    for event in train_locally(model, seed=work.seed, share=share, **work.training):
        if rank == 0:
            queue.put(event)
    if rank == 0:
        queue.put(model_arrays(model))
