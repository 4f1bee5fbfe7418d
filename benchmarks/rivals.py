"""The networks that a training step of ours is compared with.

`same places` has a full 4D convolution where ours has a separable one. `all stages` has
one in every stage, which needs the virtual years right behind the stem. `from the first
layer` makes the years of the voxels themselves, so that the whole image branch works on
eight volumes a patient. MONAI's networks take the time points as channels, as is usual
where a network knows no time; they read no clinical columns.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet
from acfnet_core.model.stages import stages_of_years
from acfnet_core.model.timestamps import VirtualTimestampEncoder

NUM_COLUMNS = 13
OURS = "ours"
SAME_PLACES = "full 4D, same places"
ALL_STAGES = "full 4D, all stages"
FIRST_LAYER = "full 4D, from the first layer"
RESNET = "MONAI ResNet-18"
DENSENET = "MONAI DenseNet-121"


class YearsOfVoxels(nn.Module):
    """Makes the virtual years of the scans' voxels; everything then works on years.

    The parts behind are those of the library, with full 4D convolutions in all stages.
    """

    def __init__(self, config: AcfNetConfig) -> None:
        super().__init__()
        self.years = VirtualTimestampEncoder(
            config.num_channels, config.num_years, config.num_channels
        )
        self.network = AcfNet(config)
        first = config.model_copy(update={"expand_at": "stem"})
        self.stages = nn.Sequential(
            *stages_of_years(first), *stages_of_years(first)[:1]
        )
        del self.network.scan_stages, self.network.expansion, self.network.year_stages

    def forward(self, inputs: PatientInputs) -> Tensor:
        """Return the image's logit of every year."""
        years = self.years(inputs.scans, inputs.scan_time_months, inputs.scan_mask)
        known = torch.ones(years.shape[:3])
        volumes = self.stages(self.network.stem(years, known))
        return self.network.readout(self.network.attention(volumes)).year_logits


class OfChannels(nn.Module):
    """Gives a network for images the time points as further channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: PatientInputs) -> Tensor:
        """Return the network's logits, one a bin."""
        return self.network(inputs.scans.flatten(1, 2))


def ours(size: str, **settings: str) -> AcfNet:
    """Build a network of ours."""
    return AcfNet(
        AcfNetConfig.model_validate(
            {"num_clinical_features": NUM_COLUMNS, "size": size, **settings}
        )
    )


def networks_of(size: str) -> Mapping[str, Callable[[], nn.Module]]:
    """Return ours of a size and its full 4D counterparts, by name."""
    full = {"convolution": "full", "expand_at": "stem"}
    return {
        OURS: lambda: ours(size),
        SAME_PLACES: lambda: ours(size, convolution="full"),
        ALL_STAGES: lambda: ours(size, **full),
        FIRST_LAYER: lambda: YearsOfVoxels(ours(size, **full).config),
    }


def monai_networks(
    num_channels: int, num_bins: int
) -> dict[str, Callable[[], nn.Module]]:
    """Return MONAI's networks with the same input and as many outputs as bins."""
    from monai.networks.nets import DenseNet121, resnet18

    return {
        RESNET: lambda: OfChannels(
            resnet18(
                spatial_dims=3, n_input_channels=num_channels, num_classes=num_bins
            )
        ),
        DENSENET: lambda: OfChannels(
            DenseNet121(spatial_dims=3, in_channels=num_channels, out_channels=num_bins)
        ),
    }
