"""Risk maps: where in the image a year's logit comes from, and on which grid.

Axes: `batch year channel mapdepth mapheight mapwidth place feature`.

A map is an exact additive attribution: its places sum to the image logit of its year.
It is no forecast of where a recurrence will appear.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class YearReadout:
    """What is read from the image for every virtual year."""

    risk_maps: Float[Tensor, "batch year mapdepth mapheight mapwidth"]
    year_logits: Float[Tensor, "batch year"]
    year_tokens: Float[Tensor, "batch year feature"]


class RiskMapReadout(nn.Module):
    """Read a logit, its map and a token from each year's volume.

    At place n with features `v_n` the map is `softmax_n(a . v_n) (r . v_n + c)`. The
    year's logit is its sum, and the year's token is the mean of the features with the
    same weights, so both look at the same places. Where nothing is to be fused with the
    image the tokens are zero and have no parameters.

    Source: ours. The pooling is that of Ilse et al. 2018, arXiv 1802.04712, equation 7,
    with a weight's score linear in the features; that each place has its own logit
    before the pooling is what makes the map an exact attribution.
    """

    def __init__(
        self, channels: int, token_width: int, *, makes_tokens: bool = True
    ) -> None:
        super().__init__()
        self.token_width = token_width
        self.makes_tokens = makes_tokens
        self.norm = nn.LayerNorm(channels)
        self.risk = nn.Linear(channels, 1)
        self.relevance = nn.Linear(channels, 1, bias=False)
        if makes_tokens:
            self.token = nn.Linear(channels, token_width)
        # Small, so that training starts near the cohort's own hazards; not smaller, or
        # the logit grows too late for the gate to learn to open for it.
        nn.init.normal_(self.risk.weight, std=0.05)
        nn.init.zeros_(self.risk.bias)

    def forward(
        self, years: Float[Tensor, "batch year channel mapdepth mapheight mapwidth"]
    ) -> YearReadout:
        """Read every year by itself."""
        depth, height, width = years.shape[3:]
        places = self.norm(rearrange(years, "b y c d h w -> b y (d h w) c"))
        weight = self.relevance(places).softmax(dim=2)
        contribution = (self.risk(places) * weight).squeeze(3)
        return YearReadout(
            risk_maps=contribution.unflatten(2, (depth, height, width)),
            year_logits=contribution.sum(dim=2),
            year_tokens=self._tokens(places, weight),
        )

    def _tokens(
        self,
        places: Float[Tensor, "batch year place channel"],
        weight: Float[Tensor, "batch year place 1"],
    ) -> Float[Tensor, "batch year feature"]:
        if not self.makes_tokens:
            return places.new_zeros(*places.shape[:2], self.token_width)
        return self.token((places * weight).sum(dim=2))


def upsample_risk_maps(
    maps: Float[Tensor, "batch year mapdepth mapheight mapwidth"],
    grid_shape: tuple[int, int, int],
) -> Float[Tensor, "batch year depth height width"]:
    """Spread each cell of a map smoothly over the grid's voxels, keeping its sum.

    Trilinear interpolation alone multiplies the sum by about the number of voxels in a
    cell, and differently at the border. Each cell is therefore divided by the total
    weight that it gives to the voxels: the finer map sums to the same logit.

    Args:
        maps: Risk maps of the network.
        grid_shape: Depth, height and width of the grid that the network was given.

    Raises:
        ValueError: The grid is coarser than the map along an axis.
    """
    map_shape = tuple(maps.shape[2:])
    if any(fine < coarse for fine, coarse in zip(grid_shape, map_shape, strict=True)):
        raise ValueError(
            f"grid_shape {grid_shape} is coarser than the risk map's {map_shape}"
        )
    depth, height, width = (
        _spread(coarse, fine, maps)
        for coarse, fine in zip(map_shape, grid_shape, strict=True)
    )
    return torch.einsum("byijk,id,jh,kw->bydhw", maps, depth, height, width)


def _spread(num_cells: int, num_voxels: int, like: Tensor) -> Tensor:
    """Return the share of each cell (row) that each voxel (column) along an axis gets.

    Rows sum to one. Voxel and cell centres are placed as the stem's even kernels do.
    """
    identity = torch.eye(num_cells, dtype=like.dtype, device=like.device)
    weight = functional.interpolate(
        identity.unsqueeze(0), size=num_voxels, mode="linear", align_corners=False
    ).squeeze(0)
    return weight / weight.sum(dim=1, keepdim=True)
