"""The device that a site computes on."""

import torch

from acfnet_core.errors import ConfigError


def choose_device(name: str, *, setting: str = "compute.device") -> torch.device:
    """Return the device asked for; `auto` takes CUDA, then MPS, then the CPU.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:<number>` or `mps`.
        setting: Where in site.toml it is asked for.

    Raises:
        ConfigError: The device is not there.
    """
    num_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if num_cuda else "mps" if has_mps else "cpu")
    kind, _, number = name.partition(":")
    is_there = {
        "cpu": not number,
        "cuda": (number or "0").isdecimal() and int(number or 0) < num_cuda,
        "mps": has_mps and not number,
    }
    if name.endswith(":") or not is_there.get(kind, False):
        raise ConfigError(
            "config.invalid",
            f"site.toml: {setting} is {name!r}, which this machine does not have.",
            remedy='Set compute.device to "auto" or "cpu", or install its driver.',
        )
    return torch.device(name)
