import numpy as np
import pytest
import torch
from references.full_convolution_4d import convolve_4d
from torch import nn

from acfnet_core.model.convolution import (
    FramewiseConv3d,
    FramewiseGroupNorm,
    FullConv4D,
    SpatiotemporalSeparableConv,
    Stem,
    TemporalConv,
    separable_width,
)
from acfnet_core.model.inputs import channels_beside


def _volumes(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


def test_full_convolution_equals_nested_loops() -> None:
    layer = FullConv4D(2, 3).double()
    volumes = _volumes(2, 3, 2, 3, 2, 4).double()
    kernel = np.stack([t.weight.detach().numpy() for t in layer.taps], axis=2)  # type: ignore[operator]
    expected = [convolve_4d(v.numpy().swapaxes(0, 1), kernel) for v in volumes]
    found = layer(volumes).detach().numpy().swapaxes(1, 2)
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-12)


def test_separable_convolution_is_a_full_one_with_a_factored_kernel() -> None:
    layer = SpatiotemporalSeparableConv(2, 3).double()
    volumes = _volumes(1, 4, 2, 3, 3, 3).double()
    spatial = layer.spatial.weight.detach().numpy()
    temporal = layer.temporal.weight.detach().numpy()[..., 0]
    kernel = np.einsum("midhw,omt->oitdhw", spatial, temporal)
    expected = convolve_4d(volumes[0].numpy().swapaxes(0, 1), kernel)
    found = layer(volumes)[0].detach().numpy().swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("channels", [24, 40, 64])
def test_separable_width_leaves_59_percent(channels: int) -> None:
    kept = separable_width(channels, channels) * 30 * channels / (81 * channels**2)
    assert 0.575 <= kept <= 0.59


def test_framewise_convolution_treats_every_time_alike() -> None:
    layer = FramewiseConv3d(2, 3, 3, padding=1)
    volumes = _volumes(2, 4, 2, 3, 3, 3)
    alone = nn.Conv3d.forward(layer, volumes[:, 1])
    assert torch.allclose(layer(volumes)[:, 1], alone, atol=1e-6)


def test_framewise_norm_takes_no_statistic_from_another_time() -> None:
    layer = FramewiseGroupNorm(2, 4)
    volumes = _volumes(2, 3, 4, 2, 2, 2)
    changed = volumes.clone()
    changed[:, 0] *= 100
    assert torch.equal(layer(volumes)[:, 1:], layer(changed)[:, 1:])


def test_temporal_convolution_reaches_one_year_to_each_side() -> None:
    layer = TemporalConv(2, 2)
    volumes = torch.zeros(1, 7, 2, 1, 1, 1)
    volumes[:, 3] = 1
    touched = layer(volumes).abs().sum(dim=(2, 3, 4, 5))[0] > 0
    assert touched.tolist() == [False, False, True, True, True, False, False]


def test_stem_cells_lie_on_the_middle_of_their_voxels() -> None:
    """The centre of influence of a cell is the centre of the block it stands for."""
    stem = Stem(1, 8, (4, 8, 8), 1)
    with torch.no_grad():
        for layer in (stem.reduce, stem.merge):
            layer.weight.fill_(1.0)
    scans = torch.zeros(1, 1, 1, 12, 24, 24, requires_grad=True)
    merged = stem.merge(stem.reduce(scans))
    merged[0, 0, 0, 1, 1, 1].backward()
    assert scans.grad is not None
    influence = scans.grad[0, 0, 0]
    voxel = torch.arange(24.0)
    centre = (influence.sum(dim=(0, 1)) * voxel).sum() / influence.sum()
    assert float(centre) == pytest.approx(8 + 3.5)


def test_stem_tells_a_missing_channel_from_an_empty_one() -> None:
    stem = Stem(4, 8, (4, 8, 8), 2)
    scans = _volumes(1, 1, 4, 8, 16, 16)
    scans[:, :, 2] = 0
    known = torch.ones(1, 1, 4)
    lacking = known.clone()
    lacking[..., 2] = 0
    assert not torch.equal(stem(scans, known), stem(scans, lacking))


def _stem_gradient(stem: Stem, scans: torch.Tensor) -> torch.Tensor:
    stem.zero_grad()
    torch.autograd.backward(stem(scans, torch.ones(scans.shape[:3])).square().sum())
    return torch.cat(
        [p.grad.flatten() for p in stem.parameters() if p.grad is not None]
    )


def test_how_scans_lie_in_memory_changes_no_bit_of_the_stem() -> None:
    stem = Stem(4, 40, (4, 8, 8), 4)
    scans = _volumes(2, 2, 4, 24, 48, 48)
    plain, beside = (_stem_gradient(stem, s) for s in (scans, channels_beside(scans)))
    assert torch.equal(plain, beside)


def test_the_stem_equals_plain_convolutions() -> None:
    stem = Stem(4, 8, (4, 8, 8), 2).double()
    scans = _volumes(2, 2, 4, 8, 16, 16).double()
    volumes = scans.flatten(0, 1)
    merged = nn.Conv3d.forward(
        stem.merge, nn.Conv3d.forward(stem.reduce, volumes).relu()
    )
    normed = nn.GroupNorm.forward(stem.merge_norm, merged)
    known = torch.zeros(2, 2, 4).double()
    assert torch.allclose(stem(scans, known).flatten(0, 1), normed, atol=1e-12)


def test_the_stem_hands_on_contiguous_volumes() -> None:
    stem = Stem(4, 8, (4, 8, 8), 2)
    assert stem(_volumes(1, 2, 4, 8, 16, 16), torch.ones(1, 2, 4)).is_contiguous()


def test_the_stem_keeps_no_copy_of_scans_that_lie_as_it_needs_them() -> None:
    stem, scans = (
        Stem(4, 8, (4, 8, 8), 2),
        channels_beside(_volumes(1, 2, 4, 8, 16, 16)),
    )
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stem(scans, torch.ones(1, 2, 4))
    large = {t.data_ptr() for t in kept if t.numel() == scans.numel()}
    assert large == {scans.data_ptr()}
