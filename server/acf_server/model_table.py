"""What each size and ablation of the network costs: parameters, arithmetic, memory.

Everything is counted on networks that are built and run once, on one made-up patient
with two scans on the grid of the shipped contract, so that no figure is a formula that
could drift from the code.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.model.ablations import ABLATIONS, ablated_config
from acfnet_core.model.config import SIZES, AcfNetConfig
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.model.parameter_counts import (
    conv_reduction,
    model_reduction,
    num_parameters,
)

NUM_SCANS = 2
BYTES_PER_MIB = 2**20
FLOPS_PER_MULTIPLY_ADD = 2

DEFINITIONS = (
    "conv_reduction, model_reduction: share of parameters that the 4D convolutions, "
    "or the whole network, have fewer than with full 4D kernels; 0 where there is "
    "nothing to save.",
    "multiply-adds: of the convolutions and matrix products in one forward pass of "
    "one patient with {num_scans} scans of {grid} voxels and {num_columns} columns "
    "(half the flops that torch's FlopCounterMode counts).",
    "activation memory: bytes of the distinct tensors, parameters left out, that the "
    "same pass keeps for backward while training, in 32 bits on the CPU.",
)


class ModelFigures(BaseModel):
    """One row of the table.

    Attributes:
        size: Name of the size.
        ablation: Name of the ablation.
        parameters: Trainable numbers.
        conv_reduction: Share that the 4D convolutions have fewer than full ones.
        model_reduction: Share that the network has fewer than with full ones.
        multiply_adds: Of convolutions and matrix products, one patient forward.
        activation_mib: What that pass keeps for backward, in MiB.
    """

    model_config = ConfigDict(frozen=True)

    size: str
    ablation: str
    parameters: int
    conv_reduction: float
    model_reduction: float
    multiply_adds: int
    activation_mib: float


def measure_models() -> Iterator[ModelFigures]:
    """Yield the figures of every size and ablation, as they are found."""
    num_columns = shipped_contract("crlm").num_clinical_features
    for size in SIZES:
        whole = AcfNetConfig.model_validate(
            {"num_clinical_features": num_columns, "size": size}
        )
        for ablation in ABLATIONS:
            measured = _measure(ablated_config(whole, ablation))
            yield ModelFigures(size=size, ablation=ablation, **measured)


def num_rows() -> int:
    """Return how many rows `measure_models` yields."""
    return len(SIZES) * len(ABLATIONS)


def render_table(rows: Sequence[ModelFigures]) -> Iterator[str]:
    """Yield the lines of the table for people."""
    yield (
        f"{'size':<6} {'ablation':<19} {'parameters':>10} {'conv_reduction':>15} "
        f"{'model_reduction':>16} {'multiply-adds':>14} {'activation memory':>18}"
    )
    for row in rows:
        yield (
            f"{row.size:<6} {row.ablation:<19} {row.parameters:>10,} "
            f"{row.conv_reduction:>13.1%}   {row.model_reduction:>14.1%}   "
            f"{row.multiply_adds / 1e6:>10,.1f} M   {row.activation_mib:>12,.1f} MiB"
        )


def describe_figures() -> Iterator[str]:
    """Yield what each column of the table means."""
    patient = _one_patient()
    grid = " x ".join(map(str, patient.scans.shape[3:]))
    for definition in DEFINITIONS:
        yield definition.format(
            num_scans=NUM_SCANS, grid=grid, num_columns=patient.clinical.shape[1]
        )


def count_multiply_adds(model: nn.Module, inputs: PatientInputs | Tensor) -> int:
    """Count the multiply-adds of convolutions and matrix products in a forward pass."""
    # Fused attention on a CPU is no product that the counter knows (torch 2.13).
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(inputs)
    return counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD


def count_activation_bytes(model: nn.Module, inputs: PatientInputs | Tensor) -> int:
    """Count the bytes that a forward pass keeps for backward, parameters left out.

    Of a tensor that is a view the whole storage is kept, and so counted; once, however
    many views or operations keep it.
    """
    own = {_address(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Held until the end, or a later tensor could stand at the same address.
        kept[_address(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs)
    return sum(
        tensor.untyped_storage().nbytes()
        for address, tensor in kept.items()
        if address not in own
    )


@cache
def _measure(config: AcfNetConfig) -> dict[str, float]:
    """Measure one network; ablations of the loss alone share one."""
    model, patient = build_model(config, seed=0), _one_patient()
    return {
        "parameters": num_parameters(model),
        "conv_reduction": conv_reduction(config),
        "model_reduction": model_reduction(config),
        "multiply_adds": count_multiply_adds(model.eval(), patient),
        "activation_mib": _activation_mib(model.train(), patient),
    }


def _activation_mib(model: AcfNet, patient: PatientInputs) -> float:
    return count_activation_bytes(model, patient) / BYTES_PER_MIB


@cache
def _one_patient() -> PatientInputs:
    """Make up a patient of whom everything is known, on the shipped contract's grid."""
    contract = shipped_contract("crlm")
    if contract.imaging is None:
        raise ValueError("the shipped contract has imaging")
    num_channels = AcfNetConfig(num_clinical_features=1).num_channels
    num_columns = contract.num_clinical_features
    return PatientInputs(
        scans=torch.ones(1, NUM_SCANS, num_channels, *contract.imaging.grid_shape),
        scan_time_months=torch.tensor([[-1.0, 6.0]]),
        scan_mask=torch.ones(1, NUM_SCANS, dtype=torch.bool),
        channel_mask=torch.ones(1, NUM_SCANS, num_channels, dtype=torch.bool),
        clinical=torch.ones(1, num_columns),
        clinical_mask=torch.ones(1, num_columns, dtype=torch.bool),
    )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
