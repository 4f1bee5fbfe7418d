"""Convolutions over three axes of space and one of time, separable and full.

Axes: `batch time channel depth height width`; `time` is the scans of a patient before
the virtual timestamps and the years after them.

Every layer takes the patients as its first axis and folds time into it inside its own
`forward`. A layer that was given patients and times folded together would hand a
per-patient gradient engine one gradient per time, and its clipping would be wrong.
"""

from math import floor

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from acfnet_core.model.inputs import channels_beside

SPATIAL_TAPS = 27
TEMPORAL_TAPS = 3
MATCHING_SCALE = 0.59
"""Share of the full 4D convolution's parameters that the separable one keeps: 41 %
fewer, the figure in the abstract of arXiv 2503.09652."""


class FramewiseConv3d(nn.Conv3d):
    """A Conv3d over each time of each patient, the same at every time."""

    def forward(
        self, input: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time out_channel out_depth out_height out_width"]:
        """Convolve every volume of the sequence."""
        num_patients, num_times = input.shape[:2]
        volumes = super().forward(input.flatten(0, 1))
        return volumes.reshape(num_patients, num_times, *volumes.shape[1:])


class FramewiseGroupNorm(nn.GroupNorm):
    """A GroupNorm over each time of each patient; no statistic leaves the volume."""

    def forward(
        self, input: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time channel depth height width"]:
        """Normalise every volume of the sequence by itself."""
        num_patients, num_times = input.shape[:2]
        volumes = super().forward(input.flatten(0, 1))
        return volumes.reshape(num_patients, num_times, *volumes.shape[1:])


class TemporalConv(nn.Conv2d):
    """A convolution of three neighbouring years at each place: kernel 3x1x1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, (3, 1), padding=(1, 0), bias=False)

    def forward(
        self, input: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time out_channel depth height width"]:
        """Convolve along time; before the first and after the last year stands zero."""
        depth, height, width = input.shape[3:]
        places = rearrange(input, "b t c d h w -> b c t (d h w)")
        return rearrange(
            super().forward(places),
            "b c t (d h w) -> b t c d h w",
            d=depth,
            h=height,
            w=width,
        )


def separable_width(in_channels: int, out_channels: int) -> int:
    """Return the middle width that leaves 59 % of a full 4D convolution's parameters.

    With `Ci -> M` by 27 taps and `M -> Co` by 3, `M (27 Ci + 3 Co)` parameters stand
    against `81 Ci Co`. The plain choice `M = Co` would save 63 %, so the abstract's
    41 % cannot mean it.

    Source: the matching rule of Tran et al. 2018 (arXiv 1711.11248, section 3.5) for
    (2+1)D, written for (3+1)D and scaled by 0.59, which is ours.
    """
    full = SPATIAL_TAPS * TEMPORAL_TAPS * in_channels * out_channels
    per_middle = SPATIAL_TAPS * in_channels + TEMPORAL_TAPS * out_channels
    return floor(MATCHING_SCALE * full / per_middle)


class SpatiotemporalSeparableConv(nn.Module):
    """A 4D convolution as 1x3x3x3 in space followed by 3x1x1x1 in time.

    Neither has a bias: the GroupNorm that follows would remove most of it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        middle = separable_width(in_channels, out_channels)
        self.spatial = FramewiseConv3d(in_channels, middle, 3, padding=1, bias=False)
        self.temporal = TemporalConv(middle, out_channels)

    def forward(
        self, volumes: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time out_channel depth height width"]:
        """Convolve in space, then in time."""
        return self.temporal(self.spatial(volumes))


class FullConv4D(nn.Module):
    """The 3x3x3x3 convolution that the separable one replaces.

    A sum of three Conv3d over the sequence shifted by one year back, none and one year
    on. It is the counterpart against which parameters are counted, and can be trained
    in place of the separable one (`AcfNetConfig.convolution`).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.taps = nn.ModuleList(
            FramewiseConv3d(in_channels, out_channels, 3, padding=1, bias=False)
            for _ in range(TEMPORAL_TAPS)
        )

    def forward(
        self, volumes: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time out_channel depth height width"]:
        """Add what the year before, the year itself and the year after contribute."""
        edge = torch.zeros_like(volumes[:, :1])
        padded = torch.cat([edge, volumes, edge], dim=1)
        num_times = volumes.shape[1]
        before, now, after = (
            tap(padded[:, offset : offset + num_times])
            for offset, tap in enumerate(self.taps)
        )
        return before + now + after


class ResidualStage(nn.Module):
    """A convolution with GroupNorm and GELU, added to what came in."""

    def __init__(self, convolution: nn.Module, channels: int, num_groups: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = FramewiseGroupNorm(num_groups, channels)
        self.activation = nn.GELU()

    def forward(
        self, volumes: Float[Tensor, "batch time channel depth height width"]
    ) -> Float[Tensor, "batch time channel depth height width"]:
        """Refine the volumes without changing their shape."""
        return volumes + self.activation(self.norm(self.convolution(volumes)))


class Stem(nn.Module):
    """Two strided convolutions that take a scan to the grid of the risk map.

    Each kernel is as wide as its stride, so a cell of the map is made of the voxels it
    covers and lies on their middle: with the usual 3 at stride 2 the map would sit a
    few voxels off the anatomy. Neighbouring cells meet in the stages that follow, at a
    small part of what wider kernels cost on the finest grid.

    Between the two stands a ReLU and no norm: this is the finest grid of the network,
    where each tensor that backward needs costs as much as all the years of a stage, and
    a ReLU needs nothing but its result.

    Which channels exist is told by one learned vector per channel; a channel of zeros
    alone could as well mean a liver without tumours.

    On a CPU it works with the channels beside each other in memory, however the scans
    come, so that they do not decide over the last digits.
    """

    def __init__(
        self,
        num_channels: int,
        channels: int,
        reduction: tuple[int, int, int],
        num_groups: int,
    ) -> None:
        super().__init__()
        merge = (reduction[0] // 2, reduction[1] // 2, reduction[2] // 2)
        half = channels // 2
        self.reduce = FramewiseConv3d(num_channels, half, 2, stride=2)
        self.activation = nn.ReLU()
        self.merge = FramewiseConv3d(half, channels, merge, stride=merge)
        self.merge_norm = FramewiseGroupNorm(num_groups, channels)
        self.presence = nn.Linear(num_channels, channels, bias=False)

    def forward(
        self,
        scans: Float[Tensor, "batch scan channel depth height width"],
        channel_known: Float[Tensor, "batch scan channel"],
    ) -> Float[Tensor, "batch scan out_channel mapdepth mapheight mapwidth"]:
        """Encode every scan by itself."""
        if scans.device.type == "cpu":
            scans = channels_beside(scans)
        reduced = self.activation(self.reduce(scans))
        merged = self.merge_norm(self.merge(reduced).contiguous())
        return merged + self.presence(channel_known)[..., None, None, None]
