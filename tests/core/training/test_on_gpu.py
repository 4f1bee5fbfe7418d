"""What training promises, on a real GPU; skipped where there is none."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from references.model_inputs import make_inputs, make_network, with_gaps
from references.scan_cohorts import ScanCohort, make_scan_cohort
from references.site_rounds import train_briefly
from torch import Tensor

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.training.compute import ComputeOptions, Precision, prepared
from acfnet_core.training.device import choose_device
from acfnet_core.training.local_training import TrainingEvent
from acfnet_core.training.logical_step import PhysicalBatchReduced
from acfnet_core.training.reproducibility import RandomState, make_deterministic

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no GPU"
)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
WAYS = [
    ComputeOptions(precision=precision, channels_last=last, checkpointing=again)
    for precision, last, again in product(PRECISIONS, (False, True), (False, True))
]


@pytest.fixture(scope="module", autouse=True)
def deterministic() -> None:
    make_deterministic(num_threads=None)


@pytest.fixture(scope="module")
def cohort() -> ScanCohort:
    return make_scan_cohort(8, seed=3)


def on(inputs: PatientInputs, device: str) -> PatientInputs:
    return PatientInputs(**{k: v.to(device) for k, v in vars(inputs).items()})


def gradient(options: ComputeOptions, device: str) -> Tensor:
    """The whole gradient of one pass, on the CPU."""
    model = make_network(reduction=(2, 4, 4)).train().to(device)
    inputs = on(with_gaps(make_inputs(), filler=0.0), device)
    with prepared(model, options) as forward:
        torch.autograd.backward(forward(inputs).hazard_logits.square().mean())
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(parts).cpu()


def train(
    cohort: ScanCohort, device: str, compute: ComputeOptions, **settings: Any
) -> tuple[Tensor, list[TrainingEvent]]:
    """A round of local training: all parameters after it, and what was told."""
    columns = {"num_clinical_features": shipped_contract("crlm").num_clinical_features}
    model = make_network(reduction=(2, 4, 4), **columns, **settings).to(device)
    events = train_briefly(model, cohort, compute)
    return torch.cat([p.detach().flatten().cpu() for p in model.parameters()]), events


def test_a_gpu_is_found() -> None:
    assert choose_device("auto").type == "cuda"


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_way_gives_nearly_the_gradient_of_a_cpu(options: ComputeOptions) -> None:
    plain, found = gradient(ComputeOptions(), "cpu"), gradient(options, "cuda")
    tolerance = 1e-3 if options.precision == "float32" else 0.1
    assert (plain - found).norm() < tolerance * plain.norm()


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_way_gives_the_same_bits_again(options: ComputeOptions) -> None:
    assert torch.equal(gradient(options, "cuda"), gradient(options, "cuda"))


def test_recomputing_gives_the_bits_of_plain_training() -> None:
    again = ComputeOptions(checkpointing=True)
    assert torch.equal(gradient(again, "cuda"), gradient(ComputeOptions(), "cuda"))


def test_a_round_ends_near_that_of_a_cpu(cohort: ScanCohort) -> None:
    one, _ = train(cohort, "cpu", ComputeOptions())
    other, _ = train(cohort, "cuda", ComputeOptions())
    # AdamW's first steps have the size of the learning rate, 1e-3, whatever the size
    # of a gradient: where one is nearly 0 its rounding error shows.
    assert (one - other).abs().mean() < 1e-4


def test_a_round_gives_the_same_bits_again(cohort: ScanCohort) -> None:
    runs = [train(cohort, "cuda", ComputeOptions(), dropout=0.2)[0] for _ in range(2)]
    assert torch.equal(*runs)


def test_a_compiled_step_is_near_the_plain_one() -> None:
    # In a process of its own: torch cannot compile what the tests' type checks wrap.
    program = (
        "from test_on_gpu import ComputeOptions, gradient\n"
        "plain = gradient(ComputeOptions(), 'cuda')\n"
        "found = gradient(ComputeOptions(compile=True), 'cuda')\n"
        "assert (plain - found).norm() < 1e-3 * plain.norm()\n"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), str(here.parents[2]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_the_random_state_of_the_gpu_is_taken_back() -> None:
    state = RandomState.take(torch.device("cuda"))
    first = torch.rand(5, device="cuda")
    state.restore()
    assert torch.equal(first, torch.rand(5, device="cuda"))


def test_a_full_memory_of_the_gpu_halves_the_physical_batch(cohort: ScanCohort) -> None:
    wide = {"channels": 512}
    whole, _ = train(cohort, "cuda", ComputeOptions(), **wide)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train(cohort, "cuda", ComputeOptions(physical_batch_size=4), **wide)
    enough_for_four = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.02 * enough_for_four / total)
    try:
        short, events = train(cohort, "cuda", ComputeOptions(), **wide)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any(isinstance(event, PhysicalBatchReduced) for event in events)
    assert (whole - short).abs().mean() < 1e-5
