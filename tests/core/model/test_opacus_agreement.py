"""Per-patient gradients by opacus' hooks against one backward pass for each patient.

An engine that clips each patient's gradient is only sound if it has that gradient. The
hooks take the first axis of what a layer receives for the patients, so they are right
just when no layer is given patients and times folded together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule  # type: ignore[import-untyped]  # 1.6
from references.model_inputs import make_inputs, make_network, select_patients
from torch import Tensor, nn

from acfnet_core.model.ablations import ABLATIONS
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss

NUM_PATIENTS = 5
TOLERANCE = 1e-9
TIME_BIN = torch.tensor([3, 16, 0, 5, 2])
KIND = torch.tensor([1, 0, 1, 0, 1])

pytestmark = pytest.mark.filterwarnings(
    # The scans need no gradient, so the hook of the first layer says this (torch 2.13).
    "ignore:Full backward hook is firing:UserWarning"
)


@dataclass(frozen=True)
class Task:
    """A network with the loss it is trained by."""

    model: AcfNet
    loss: LossConfig

    def losses(self, output: Any, rows: slice) -> Tensor:
        terms = total_loss(
            output, time_bin=TIME_BIN[rows], kind=KIND[rows], config=self.loss
        )
        return terms.total


def make_patients() -> PatientInputs:
    """Draw patients with 3, 2, 1, 0 and 0 scans; the last has nothing known at all.

    The second lacks a channel of its first scan, the third two columns, and the fourth
    has columns alone.
    """
    complete = make_inputs(num_patients=NUM_PATIENTS, num_scans=3, seed=5)
    num_scans = torch.tensor([3, 2, 1, 0, 0])
    channel_mask = complete.channel_mask.clone()
    clinical_mask = complete.clinical_mask.clone()
    channel_mask[1, 0, 2] = False
    clinical_mask[2, :2] = False
    clinical_mask[4] = False
    return replace(
        complete,
        scans=complete.scans.double(),
        scan_time_months=complete.scan_time_months.double(),
        clinical=complete.clinical.double(),
        scan_mask=torch.arange(3) < num_scans.unsqueeze(1),
        channel_mask=channel_mask,
        clinical_mask=clinical_mask,
    )


def make_task(ablation: str, **settings: Any) -> Task:
    changed = ABLATIONS[ablation]
    # In the training mode, where the hooks work; the network draws no dropout.
    model = make_network(**{**settings, **changed.model}).double().train()
    return Task(model, LossConfig.model_validate(dict(changed.loss)))


def gradients_by_loop(task: Task, patients: PatientInputs) -> dict[str, Tensor]:
    """Return every parameter's gradient `[patient ...]`, one backward pass each."""
    named = dict(task.model.named_parameters())
    rows = []
    for index in range(NUM_PATIENTS):
        task.model.zero_grad(set_to_none=True)
        output = task.model(select_patients(patients, [index]))
        losses = task.losses(output, slice(index, index + 1))
        losses.sum().backward()  # type: ignore[no-untyped-call]  # torch 2.13
        rows.append({name: _gradient(p).clone() for name, p in named.items()})
    return {name: torch.stack([row[name] for row in rows]) for name in named}


def gradients_by_opacus(task: Task, patients: PatientInputs) -> dict[str, Tensor]:
    """Return what the hooks find in one backward pass over all patients."""
    task.model.zero_grad(set_to_none=True)
    hooked = GradSampleModule(task.model, loss_reduction="sum", strict=True)
    try:
        losses = task.losses(hooked(patients), slice(None))
        losses.sum().backward()  # type: ignore[no-untyped-call]  # torch 2.13
        return dict(_samples(task.model))
    finally:
        hooked.to_standard_module()


def _samples(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        sample = getattr(parameter, "grad_sample", None)
        missing = parameter.new_zeros(NUM_PATIENTS, *parameter.shape)
        yield name, missing if sample is None else sample


def _gradient(parameter: nn.Parameter) -> Tensor:
    zeros = torch.zeros_like(parameter)
    return zeros if parameter.grad is None else parameter.grad


def disagreements(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> set[str]:
    """Return the parameters whose gradients differ in number or in value."""
    assert found.keys() == expected.keys()
    return {
        name
        for name, gradient in expected.items()
        if found[name].shape != gradient.shape
        or not torch.allclose(found[name], gradient, rtol=TOLERANCE, atol=TOLERANCE)
    }


CASES = [
    (ablation, convolution)
    for ablation in ABLATIONS
    for convolution in ("separable", "full")
    if (ablation, convolution) not in {("full_convolution", "separable")}
]


@pytest.mark.parametrize(("ablation", "convolution"), CASES)
def test_hooks_find_the_gradient_of_each_patient(
    ablation: str, convolution: str
) -> None:
    task = make_task(ablation, convolution=convolution)
    patients = make_patients()
    expected = gradients_by_loop(task, patients)
    assert disagreements(gradients_by_opacus(task, patients), expected) == set()


@pytest.mark.parametrize(
    "settings",
    [
        {"competing_death": True},
        {"num_years": 12},
        {"expand_at": "stem"},
        {"expand_at": "stage2"},
    ],
    ids=str,
)
def test_hooks_find_the_gradient_of_each_patient_under_other_settings(
    settings: dict[str, Any],
) -> None:
    task = make_task("none", **settings)
    patients = make_patients()
    expected = gradients_by_loop(task, patients)
    assert disagreements(gradients_by_opacus(task, patients), expected) == set()


def test_every_parameter_has_a_gradient_to_compare() -> None:
    task = make_task("none", competing_death=True)
    gradients = gradients_by_loop(task, make_patients())
    assert [name for name, each in gradients.items() if not bool(each.any())] == []


class FoldedConv(nn.Module):
    """What must not be built: a layer that is given patients and times as one axis."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.folded = nn.Conv3d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]  # three numbers at run time
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            bias=layer.bias is not None,
        )
        self.folded.load_state_dict(layer.state_dict())

    def forward(self, volumes: Tensor) -> Tensor:
        folded = self.folded(volumes.flatten(0, 1))
        return folded.reshape(*volumes.shape[:2], *folded.shape[1:])


def test_a_layer_given_patients_and_times_as_one_axis_is_caught() -> None:
    task = make_task("none")
    merge = task.model.stem.merge
    task.model.stem.merge = FoldedConv(merge).double()  # type: ignore[assignment]
    patients = make_patients()
    expected = gradients_by_loop(task, patients)
    found = disagreements(gradients_by_opacus(task, patients), expected)
    assert found == {"stem.merge.folded.weight", "stem.merge.folded.bias"}
