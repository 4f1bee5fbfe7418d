"""Seeds and deterministic settings, in one place."""

import hashlib
import os

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
