"""Virtual timestamps: from scans at irregular times to one volume per future year.

Axes: `batch scan year head channel depth height width code`.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from acfnet_core.time_units import MONTHS_PER_YEAR

NUM_FREQUENCIES = 4
TIME_CODE_WIDTH = 2 * NUM_FREQUENCIES + 1
LONGEST_LOG_TIME = 5.0
"""log(1 + 147 months): the slowest sinusoid does half a turn over twelve years."""


def year_midpoints_months(
    num_years: int, device: torch.device | None = None, *, years_each: int = 1
) -> Float[Tensor, " year"]:
    """Return the time for which virtual year j = 1..Y stands: 6, 18, 30, ... months.

    If each stands for several years, it is the middle of those.
    """
    years = torch.arange(num_years, dtype=torch.float32, device=device)
    return years_each * MONTHS_PER_YEAR * (years + 0.5)


def time_code(time_months: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape code"]:
    """Write a signed time or distance as sines and cosines of its signed logarithm.

    With `u = sign(t) log(1 + |t|)` the code is `[u / 5, sin(w_i u), cos(w_i u)]` at the
    frequencies `w_i = pi 2^i / 5`, i = 0..3. The logarithm gives the months around
    surgery more room than the late years.

    Source: ours; sines and cosines at rising frequencies are those of Vaswani et al.
    2017, arXiv 1706.03762, section 3.5.
    """
    log_time = time_months.sign() * time_months.abs().log1p()
    octave = torch.arange(NUM_FREQUENCIES, device=time_months.device)
    frequency = (pi / LONGEST_LOG_TIME) * 2.0**octave
    angle = log_time.unsqueeze(-1) * frequency
    slow = log_time.unsqueeze(-1) / LONGEST_LOG_TIME
    return torch.cat([slow, angle.sin(), angle.cos()], dim=-1)


@dataclass(frozen=True, kw_only=True)
class ViewOfScans:
    """How the virtual years of each patient look at the scans.

    Attributes:
        share: How much of each scan a year takes; it sums to one over the scans.
        seen_code: The distances in time that each head looked over.
    """

    share: Float[Tensor, "batch year scan head"]
    seen_code: Float[Tensor, "batch year codes"]


def mix_scans(
    volumes: Float[Tensor, "batch scan channel depth height width"],
    share: Float[Tensor, "batch year scan head"],
) -> Float[Tensor, "batch year channel depth height width"]:
    """Take of each scan its share; runs of neighbouring channels belong to a head."""
    channels, num_heads = volumes.shape[2], share.shape[3]
    head = torch.arange(channels, device=share.device) * num_heads // channels
    return torch.einsum("bysc,bscdhw->bycdhw", share[..., head], volumes)


class VirtualTimestampEncoder(nn.Module):
    """Form a volume for every virtual year from the scans that exist.

    Year j is a query. For each head (a run of channels) it weighs the scans by a
    learned function of the signed distance `tau_j - scan_time` and of the scan's own
    time, so that one head may follow the latest scan and another the first. The
    distance alone would not do: seen from year five, half a year more or less is
    nothing, and every head would see the same mean of the scans. The heads start apart.

    The time code of the year and the distances it looked over then scale and shift the
    channels (FiLM, Perez et al. 2018, arXiv 1709.07871). One scan gives modulated
    copies of itself, several give a path.

    The abstract names the virtual timestamp encoding; its form here is ours. That the
    distances enter the modulation is what tells a scan taken the day before surgery
    from one taken a year later when a patient has only one.
    """

    def __init__(
        self, channels: int, num_years: int, num_heads: int, *, years_each: int = 1
    ) -> None:
        super().__init__()
        self.num_years = num_years
        self.years_each = years_each
        self.score = nn.Linear(TIME_CODE_WIDTH, num_heads)
        self.score_of_scan = nn.Linear(TIME_CODE_WIDTH, num_heads, bias=False)
        scale_and_shift = nn.Linear(channels, 2 * channels)
        self.film = nn.Sequential(
            nn.Linear((1 + num_heads) * TIME_CODE_WIDTH, channels),
            nn.GELU(),
            scale_and_shift,
        )
        nn.init.normal_(self.score_of_scan.weight, std=1.0)
        # Small, so that training starts with years that are nearly copies.
        nn.init.normal_(scale_and_shift.weight, std=0.05)
        nn.init.zeros_(scale_and_shift.bias)

    def forward(
        self,
        scans: Float[Tensor, "batch scan channel depth height width"],
        scan_time_months: Float[Tensor, "batch scan"],
        scan_mask: Bool[Tensor, "batch scan"],
    ) -> Float[Tensor, "batch year channel depth height width"]:
        """Expand scans to years; a patient without any scan gets finite filler."""
        view = self.look(scan_time_months, scan_mask)
        return self.modulate(mix_scans(scans, view.share), view)

    def look(
        self,
        scan_time_months: Float[Tensor, "batch scan"],
        scan_mask: Bool[Tensor, "batch scan"],
    ) -> ViewOfScans:
        """Decide how each year looks at the scans."""
        distance = (
            self._year_months(scan_time_months)[:, None] - scan_time_months[:, None]
        )
        distance_code = time_code(distance)
        score = self.score(distance_code)
        score = score + self.score_of_scan(time_code(scan_time_months))[:, None]
        lowest = torch.finfo(score.dtype).min
        share = score.masked_fill(~scan_mask[:, None, :, None], lowest).softmax(dim=2)
        seen_code = torch.einsum("bysg,bysk->bygk", share, distance_code).flatten(2)
        return ViewOfScans(share=share, seen_code=seen_code)

    def modulate(
        self,
        years: Float[Tensor, "batch year channel depth height width"],
        view: ViewOfScans,
    ) -> Float[Tensor, "batch year channel depth height width"]:
        """Scale and shift the channels of each year by its time and what it saw."""
        year_code = time_code(self._year_months(years)).expand(len(years), -1, -1)
        modulation = self.film(torch.cat([year_code, view.seen_code], dim=2))
        scale, shift = modulation[..., None, None, None].chunk(2, dim=2)
        return years * (1 + scale) + shift

    def _year_months(self, like: Tensor) -> Float[Tensor, " year"]:
        return year_midpoints_months(
            self.num_years, like.device, years_each=self.years_each
        )
