"""A GPU refuses some operations in the deterministic mode; none of them may be used.

The check needs no GPU: it watches which operations reach torch's kernels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from references.model_inputs import make_inputs, make_network, with_gaps, without_scans
from torch.utils._python_dispatch import TorchDispatchMode

from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.risk_maps import upsample_risk_maps
from acfnet_core.objective.loss import LossConfig, total_loss

REFUSED = frozenset(
    {
        "_adaptive_avg_pool2d_backward",
        "_adaptive_avg_pool3d_backward",
        "_ctc_loss_backward",
        "_embedding_bag_dense_backward",
        "adaptive_max_pool2d_backward",
        "avg_pool3d_backward",
        "bincount",
        "cumsum",
        "fractional_max_pool2d_backward",
        "fractional_max_pool3d_backward",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "max_unpool2d",
        "max_unpool3d",
        "median",
        "nll_loss2d_forward",
        "nll_loss_forward",
        "put",
        "reflection_pad1d_backward",
        "reflection_pad2d_backward",
        "reflection_pad3d_backward",
        "resize",
        "scatter_reduce",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
        "upsample_trilinear3d_backward",
    }
)
"""What torch 2.13 lists as "will throw a RuntimeError" in the documentation of
`torch.use_deterministic_algorithms`, by the names of the operations underneath."""

INPUTS = {
    "whole": make_inputs,
    "with gaps": lambda: with_gaps(make_inputs(), filler=0.0),
    "without scans": lambda: without_scans(make_inputs()),
}


# Torch 2.13 leaves the initialisers of a dispatch mode without types.
class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the name of every operation, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        namespace, _, name = func.name().partition("::")
        if namespace == "aten":
            # In place and out of place are one operation: put_ and put.
            self.names.add(name.partition(".")[0].removesuffix("_"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("competing_death", [False, True])
@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_no_step_of_training_uses_what_a_gpu_would_refuse(
    make: Callable[[], PatientInputs], competing_death: bool, convolution: str
) -> None:
    model = make_network(
        competing_death=competing_death, convolution=convolution, token_dropout=0.1
    ).train()
    inputs = make()
    with Watch() as watch:
        output = model(inputs)
        terms = total_loss(
            output,
            time_bin=torch.tensor([0, 3, 16]),
            kind=torch.tensor([1, 0, 0]),
            config=LossConfig(),
        )
        maps = upsample_risk_maps(output.risk_maps, (8, 16, 16))
        curves = output.survival.sum() + output.cumulative_incidence.sum()
        torch.autograd.backward(terms.mean + curves + maps.sum())
    assert watch.names & REFUSED == set()


def test_the_watch_sees_what_only_the_backward_pass_uses() -> None:
    values = torch.rand(2, 3, requires_grad=True)
    with Watch() as watch:
        torch.autograd.backward(values.cumprod(dim=1).sum())
    assert "cumsum" in watch.names & REFUSED
