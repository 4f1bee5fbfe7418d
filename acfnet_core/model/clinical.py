"""The clinical columns: one token each, and a straight line to the hazard.

Axes: `batch column feature bin`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_TIME_SHAPES = 3
COEFFICIENT_GAIN = 3.0
"""How much faster than a weight a coefficient moves under Adam, whose steps are of one
size for all weights: a log hazard ratio of 0.3 should not need 300 steps."""


@dataclass(frozen=True, kw_only=True)
class ClinicalReadout:
    """What is read from the clinical columns, and from them and the image together."""

    tokens: Float[Tensor, "batch column feature"]
    states: Float[Tensor, "batch bin feature"]
    logits: Float[Tensor, "batch bin"]


class ClinicalTokenizer(nn.Module):
    """Turn every column into a token: `value * scale[column] + offset[column]`.

    Source: Gorishniy et al. 2021, arXiv 2106.11959, section 3.3, numerical features.
    """

    def __init__(self, num_columns: int, width: int) -> None:
        super().__init__()
        self.num_columns = num_columns
        self.scale = nn.Embedding(num_columns, width)
        self.offset = nn.Embedding(num_columns, width)
        nn.init.normal_(self.scale.weight, std=0.5)
        nn.init.normal_(self.offset.weight, std=0.5)

    def forward(
        self, clinical: Float[Tensor, "batch column"]
    ) -> Float[Tensor, "batch column feature"]:
        """Make the tokens; those of unknown columns are for the caller to mask."""
        index = torch.arange(self.num_columns, device=clinical.device)
        column = index.expand(len(clinical), -1)
        return clinical.unsqueeze(2) * self.scale(column) + self.offset(column)


class LinearClinicalPath(nn.Module):
    """A discrete-time hazard regression on the columns, the model's starting point.

    The logit of bin k gets `sum_p x_p beta_p(k)`. The effect `beta_p` is a constant,
    which alone is a proportional-odds model and close to Cox's, plus a slope and a bend
    over the bins at half and a quarter of its speed. It starts at zero. On 150 patients
    and a dozen columns such a line is hard to beat; everything else in the network
    starts near zero beside it. This path is ours.
    """

    time_shapes: Tensor

    def __init__(self, num_columns: int, num_bins: int) -> None:
        super().__init__()
        self.coefficients = nn.Linear(num_columns, NUM_TIME_SHAPES, bias=False)
        nn.init.zeros_(self.coefficients.weight)
        self.register_buffer("time_shapes", _time_shapes(num_bins), persistent=False)

    def forward(
        self, clinical: Float[Tensor, "batch column"]
    ) -> Float[Tensor, "batch bin"]:
        """Return what the columns add to each bin's logit; unknown ones must be 0."""
        return self.coefficients(clinical) @ self.time_shapes


def _time_shapes(num_bins: int) -> Float[Tensor, "shape bin"]:
    """Return a constant, a slope and a bend over the bins (Legendre polynomials)."""
    time = torch.linspace(-1.0, 1.0, num_bins) if num_bins > 1 else torch.zeros(1)
    constant = torch.ones(num_bins)
    bend = (3 * time**2 - 1) / 2
    return COEFFICIENT_GAIN * torch.stack([constant, time / 2, bend / 4])
