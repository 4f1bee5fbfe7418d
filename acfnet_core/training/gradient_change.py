"""What a strategy does to the gradient of a step, once the step's whole batch is in it.

A change is made once for each optimiser step, after physical batches and processes have
been summed up, so it does not depend on how a machine computes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acfnet_core.federation.parameters import NamedArrays


@dataclass(frozen=True, kw_only=True)
class GradientChange:
    """What to do; it can cross into another process.

    Attributes:
        proximal_mu: mu of FedProx. `mu (w - w_start)` joins the gradient before it is
            clipped, w_start being the parameters before the first step: the gradient of
            `mu / 2 |w - w_start|^2`. A parameter that has no gradient in a step has
            none afterwards: nothing of the batch depends on it.
        added: c - c_i of SCAFFOLD, by the parameters' names; or None. It joins the
            gradient after that was clipped, so that clipping bounds what the patients
            do and never weakens the correction. A parameter that has no gradient in a
            step counts as having one of zero, since the corrections of all sites cancel
            only if every site applies its own.
    """

    proximal_mu: float = 0.0
    added: NamedArrays | None = None


class ChangedGradient:
    """A change bound to a model whose training is about to begin.

    Source: FedProx, Li et al. 2018, arXiv 1812.06127, equation 2; SCAFFOLD, Karimireddy
    et al. 2020, arXiv 1910.06378, algorithm 1, line 10.
    """

    def __init__(self, model: nn.Module, change: GradientChange) -> None:
        self._mu = change.proximal_mu
        named = list(model.named_parameters())
        self._start: list[tuple[nn.Parameter, Tensor]] = []
        self._added: list[tuple[nn.Parameter, Tensor]] = []
        if self._mu:
            self._start = [(p, p.detach().clone()) for _, p in named]
        if change.added is not None:
            self._added = [
                (p, torch.from_numpy(change.added[name].copy()).to(p.device))
                for name, p in named
            ]

    def before_clipping(self) -> None:
        """Pull the gradient towards the parameters before the first step."""
        for parameter, start in self._start:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._mu)

    def after_clipping(self) -> None:
        """Correct the gradient."""
        for parameter, added in self._added:
            if parameter.grad is None:
                parameter.grad = added.clone()
            else:
                parameter.grad.add_(added)
