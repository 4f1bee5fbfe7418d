"""The stages of the image branch, and the one in which scans become years."""

from math import nan

import pytest
import torch
from references.model_inputs import make_inputs
from torch import Tensor, nn

from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.convolution import (
    FramewiseConv3d,
    FullConv4D,
    SpatiotemporalSeparableConv,
)
from acfnet_core.model.inputs import hide_missing
from acfnet_core.model.stages import (
    ExpandingStage,
    stages_of_scans,
    stages_of_years,
)

TIMES = torch.tensor([[-6.0, -1.0], [-3.0, 0.0]])
BOTH = torch.ones(2, 2, dtype=torch.bool)


def make_config(**settings: object) -> AcfNetConfig:
    return AcfNetConfig.model_validate({"num_clinical_features": 3, **settings})


def make_scans(config: AcfNetConfig, num_scans: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, num_scans, config.channels, 2, 3, 4, generator=generator)


def count_volumes(stage: nn.Module) -> list[int]:
    """Return, filled by the next forward, how many volumes each convolution took."""
    seen: list[int] = []
    for module in stage.modules():
        if isinstance(module, FramewiseConv3d):
            module.register_forward_pre_hook(
                lambda _, inputs: seen.append(inputs[0].shape[1])
            )
    return seen


@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_scans_become_years(convolution: str) -> None:
    config = make_config(convolution=convolution, num_years=5)
    years = ExpandingStage(config)(make_scans(config), TIMES, BOTH)
    assert years.shape == (2, 5, config.channels, 2, 3, 4)


def test_the_separable_step_in_space_runs_once_for_each_scan() -> None:
    config = make_config()
    stage = ExpandingStage(config)
    volumes = count_volumes(stage)
    stage(make_scans(config), TIMES, BOTH)
    assert volumes == [2]


def test_a_full_convolution_runs_over_all_years() -> None:
    config = make_config(convolution="full")
    stage = ExpandingStage(config)
    volumes = count_volumes(stage)
    stage(make_scans(config), TIMES, BOTH)
    assert volumes == [8, 8, 8]


def test_years_that_are_copies_may_be_made_before_or_within_the_convolution() -> None:
    config = make_config()
    stage = ExpandingStage(config)
    modulation = stage.timestamps.film[-1]
    assert isinstance(modulation, nn.Linear)
    nn.init.zeros_(modulation.weight)
    scans = make_scans(config, num_scans=1)
    within = stage(scans, TIMES[:, :1], BOTH[:, :1])
    copies = scans.expand(-1, config.num_years, -1, -1, -1, -1)
    before = copies + stage.activation(stage.norm(stage.convolution(copies)))
    torch.testing.assert_close(within, before)


def test_a_scan_that_does_not_exist_changes_no_bit_of_the_years() -> None:
    config = make_config()
    stage = ExpandingStage(config)
    mask = torch.tensor([[True, False], [True, False]])
    scans = make_scans(config)
    alone = stage(scans, TIMES, mask)
    other = scans.clone()
    other[:, 1] *= -3
    assert torch.equal(alone, stage(other, TIMES, mask))


@pytest.mark.parametrize(
    ("expand_at", "before", "after"),
    [("stem", 0, 2), ("stage1", 1, 1), ("stage2", 2, 0)],
)
def test_there_are_three_stages_wherever_the_years_are_made(
    expand_at: str, before: int, after: int
) -> None:
    config = make_config(expand_at=expand_at)
    assert len(stages_of_scans(config)) == before
    assert len(stages_of_years(config)) == after


@pytest.mark.parametrize(
    ("convolution", "kind"),
    [("separable", SpatiotemporalSeparableConv), ("full", FullConv4D)],
)
def test_every_stage_with_years_has_the_chosen_convolution(
    convolution: str, kind: type[nn.Module]
) -> None:
    config = make_config(convolution=convolution, expand_at="stem")
    stages = [ExpandingStage(config), *stages_of_years(config)]
    assert all(isinstance(stage.convolution, kind) for stage in stages)


def test_whole_inputs_in_order_of_time_are_not_copied() -> None:
    inputs = make_inputs(num_scans=2)
    ordered = inputs.scan_time_months.sort(dim=1).values
    whole = type(inputs)(
        scans=inputs.scans,
        scan_time_months=ordered,
        scan_mask=torch.ones_like(inputs.scan_mask),
        channel_mask=torch.ones_like(inputs.channel_mask),
        clinical=inputs.clinical,
        clinical_mask=inputs.clinical_mask,
    )
    assert hide_missing(whole).scans.data_ptr() == inputs.scans.data_ptr()


def test_one_unknown_voxel_plane_is_hidden_though_the_scans_are_in_order() -> None:
    inputs = make_inputs(num_scans=2)
    scans, channel_mask = inputs.scans.clone(), torch.ones_like(inputs.channel_mask)
    scans[0, 1, 2], channel_mask[0, 1, 2] = nan, False
    holed = type(inputs)(
        scans=scans,
        scan_time_months=inputs.scan_time_months.sort(dim=1).values,
        scan_mask=torch.ones_like(inputs.scan_mask),
        channel_mask=channel_mask,
        clinical=inputs.clinical,
        clinical_mask=inputs.clinical_mask,
    )
    assert hide_missing(holed).scans.isfinite().all()
