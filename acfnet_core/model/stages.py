"""The stages of the image branch: of scans, from scans to years, and of years.

Axes: `batch scan year channel depth height width`.

Real scans have no regular spacing in time, so a stage of scans convolves in space only;
a stage of years convolves in space and time. The one between them makes the years.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from acfnet_core.model.config import NUM_STAGES, STAGES_BEFORE_YEARS, AcfNetConfig
from acfnet_core.model.convolution import (
    FramewiseConv3d,
    FramewiseGroupNorm,
    FullConv4D,
    ResidualStage,
    SpatiotemporalSeparableConv,
)
from acfnet_core.model.timestamps import VirtualTimestampEncoder, mix_scans


class ExpandingStage(nn.Module):
    """The first 4D convolution, within which scans become virtual years.

    A separable convolution makes the years between its two steps: its step in space
    runs once for each scan, its step in time over the years. That is most of what
    separating saves, because a patient has a scan or two and eight years. A full 4D
    convolution needs the years before it begins.

    The residual is each year's mean of the scans, in the shares that the virtual
    timestamps gave them.
    """

    def __init__(self, config: AcfNetConfig) -> None:
        super().__init__()
        channels, heads = config.channels, config.num_heads
        self.convolution = _convolution_of_years(config)
        width = channels
        if isinstance(self.convolution, SpatiotemporalSeparableConv):
            width = self.convolution.spatial.out_channels
        self.timestamps = VirtualTimestampEncoder(
            width, config.num_virtual_years, heads, years_each=config.years_each
        )
        self.norm = FramewiseGroupNorm(heads, channels)
        self.activation = nn.GELU()

    def forward(
        self,
        scans: Float[Tensor, "batch scan channel depth height width"],
        scan_time_months: Float[Tensor, "batch scan"],
        scan_mask: Bool[Tensor, "batch scan"],
    ) -> Float[Tensor, "batch year channel depth height width"]:
        """Convolve in space, make the years, convolve in time."""
        view = self.timestamps.look(scan_time_months, scan_mask)
        copies = mix_scans(scans, view.share)
        convolution = self.convolution
        if isinstance(convolution, SpatiotemporalSeparableConv):
            years = mix_scans(convolution.spatial(scans), view.share)
            mixed = convolution.temporal(self.timestamps.modulate(years, view))
        else:
            mixed = convolution(self.timestamps.modulate(copies, view))
        return copies + self.activation(self.norm(mixed))


def stages_of_scans(config: AcfNetConfig) -> nn.Sequential:
    """Stack the stages before the virtual years."""
    channels = config.channels
    return nn.Sequential(
        *(
            ResidualStage(
                FramewiseConv3d(channels, channels, 3, padding=1, bias=False),
                channels,
                config.num_heads,
            )
            for _ in range(STAGES_BEFORE_YEARS[config.expand_at])
        )
    )


def stages_of_years(config: AcfNetConfig) -> nn.Sequential:
    """Stack the stages after the one that makes the virtual years."""
    num_stages = NUM_STAGES - STAGES_BEFORE_YEARS[config.expand_at] - 1
    return nn.Sequential(
        *(
            ResidualStage(
                _convolution_of_years(config), config.channels, config.num_heads
            )
            for _ in range(num_stages)
        )
    )


def _convolution_of_years(
    config: AcfNetConfig,
) -> SpatiotemporalSeparableConv | FullConv4D:
    kind = (
        SpatiotemporalSeparableConv if config.convolution == "separable" else FullConv4D
    )
    return kind(config.channels, config.channels)
