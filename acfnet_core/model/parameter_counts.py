"""How many parameters the separable convolutions save, counted on built networks.

The counterpart is a network that runs: the same settings with `FullConv4D` wherever
the separable convolution stands. Nothing is allocated for either (meta device).
"""

import torch
from torch import nn

from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.convolution import FullConv4D, SpatiotemporalSeparableConv
from acfnet_core.model.network import AcfNet


def num_parameters(module: nn.Module) -> int:
    """Count the trainable numbers of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def conv_reduction(config: AcfNetConfig) -> float:
    """Return the share of parameters that the 4D convolutions alone have fewer.

    It is 0 for a network that has none: nothing is saved.
    """
    own, full = (_num_in_convolutions(model) for model in _both(config))
    return 1 - own / full if full else 0.0


def model_reduction(config: AcfNetConfig) -> float:
    """Return the share of parameters that the whole network has fewer."""
    own, full = (num_parameters(model) for model in _both(config))
    return 1 - own / full


def _num_in_convolutions(model: nn.Module) -> int:
    kinds = (SpatiotemporalSeparableConv, FullConv4D)
    return sum(num_parameters(m) for m in model.modules() if isinstance(m, kinds))


def _both(config: AcfNetConfig) -> tuple[AcfNet, AcfNet]:
    """Return the network as it is and with full convolutions, without storage."""
    with torch.device("meta"):
        return (
            AcfNet(config),
            AcfNet(config.model_copy(update={"convolution": "full"})),
        )
