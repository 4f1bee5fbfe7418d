"""Seeds and deterministic settings, in one place."""

import hashlib
import os
from dataclasses import dataclass

import torch


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return a 63-bit seed for one purpose, unrelated to those of other purposes.

    >>> derive_seed(7, "hospital-a", 1) == derive_seed(7, "hospital-a", 1)
    True
    >>> derive_seed(7, "hospital-a", 1) == derive_seed(7, "hospital-a", 2)
    False
    """
    text = "\x1f".join([str(seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_deterministic(*, num_threads: int | None) -> None:
    """Make this process compute the same bits for the same inputs.

    The bits depend on the number of threads too: fix it where a run must be repeated
    exactly. Call it once, before the first tensor operation.

    Args:
        num_threads: Threads of one operation, 1 or more; None keeps torch's choice.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    # Without it cuBLAS refuses to multiply matrices in the deterministic mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


@dataclass(frozen=True)
class RandomState:
    """Where torch's generators stand that a computation on a device draws from."""

    device: torch.device
    of_cpu: torch.Tensor
    of_device: torch.Tensor | None

    @classmethod
    def take(cls, device: torch.device) -> "RandomState":
        """Note the state of the CPU's generator and of the device's own."""
        of_device = None
        if device.type == "cuda":
            of_device = torch.cuda.get_rng_state(device)
        elif device.type == "mps":
            of_device = torch.mps.get_rng_state()
        return cls(device, torch.get_rng_state(), of_device)

    def restore(self) -> None:
        """Go back to it."""
        torch.set_rng_state(self.of_cpu)
        if self.of_device is None:
            return
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.of_device, self.device)
        else:
            torch.mps.set_rng_state(self.of_device)
