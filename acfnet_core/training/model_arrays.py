"""A model's parameters as named arrays, which is how they travel and are stored."""

import numpy as np
import torch

from acfnet_core.federation.parameters import NamedArrays
from acfnet_core.model.network import AcfNet


def model_arrays(model: AcfNet) -> NamedArrays:
    """Return the trainable parameters as named float32 arrays on the CPU."""
    return {
        name: parameter.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, parameter in model.named_parameters()
    }


def load_arrays(model: AcfNet, arrays: NamedArrays) -> None:
    """Put named arrays into a model, in place.

    Raises:
        KeyError: An array of the model is absent.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(arrays[name])))
