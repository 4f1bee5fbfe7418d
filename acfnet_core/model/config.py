"""Settings of the network: what must be known to build it again.

They are stored beside the parameters, resolved: a file written for `size = "tiny"`
also holds the numbers that tiny stood for when it was written.
"""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acfnet_core.time_units import MONTHS_PER_YEAR

MODEL_NAME = "4D-ACFNet"
HAZARD_OF_HALF_A_YEAR = 0.1
NUM_STAGES = 3
STAGES_BEFORE_YEARS = {"stem": 0, "stage1": 1, "stage2": 2}

Modalities = Literal["both", "clinical", "image"]
Gate = Literal["learned", "fixed"]

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "channels": 24,
        "reduction": (4, 8, 8),
        "token_width": 24,
        "num_fusion_layers": 1,
    },
    "small": {
        "channels": 40,
        "reduction": (4, 8, 8),
        "token_width": 72,
        "num_fusion_layers": 2,
    },
    "base": {
        "channels": 64,
        "reduction": (4, 4, 4),
        "token_width": 120,
        "num_fusion_layers": 3,
    },
}
"""What each size stands for; any of it can be set otherwise in the configuration."""


def _of_size(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda fields: SIZES[fields["size"]][name]


class AcfNetConfig(BaseModel):
    """What must be known to build a network; it is stored beside its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_clinical_features: int = Field(ge=1, description="Columns of the contract.")
    size: Literal["tiny", "small", "base"] = Field(
        "tiny", description="About 0.1, 0.35 and 0.85 million parameters."
    )
    num_channels: int = Field(4, ge=1, description="Channels of a scan.")
    num_years: int = Field(8, ge=1, le=12, description="Virtual years.")
    bins_per_year: int = Field(2, ge=1, le=12, description="Hazard bins in a year.")
    competing_death: bool = Field(
        False, description="Whether death before the event has a hazard of its own."
    )
    initial_hazard: tuple[float, ...] | None = Field(
        None, description="The cohort's hazard in each bin; 0.1 per half-year if unset."
    )
    initial_death_hazard: float = Field(
        0.01, gt=0, lt=1, description="Start of the competing hazard in each bin."
    )
    expand_at: Literal["stem", "stage1", "stage2"] = Field(
        "stage2", description="After which part scans become years; later is cheaper."
    )
    convolution: Literal["separable", "full"] = Field(
        "separable", description="`full` is the counterpart with whole 4D kernels."
    )
    modalities: Modalities = Field(
        "both", description="What is read; the rest is ignored and has no parameters."
    )
    virtual_years: Literal["each", "one"] = Field(
        "each", description="A virtual year for each year, or one for the whole time."
    )
    gate: Gate = Field(
        "learned", description="`fixed` mixes both modalities' logits half and half."
    )
    channels: int = Field(
        default_factory=_of_size("channels"), ge=8, description="Of the image volumes."
    )
    reduction: tuple[int, int, int] = Field(
        default_factory=_of_size("reduction"),
        description="Voxels per risk-map cell along depth, height and width.",
    )
    token_width: int = Field(
        default_factory=_of_size("token_width"), ge=8, description="Features a token."
    )
    num_fusion_layers: int = Field(
        default_factory=_of_size("num_fusion_layers"), ge=0, description="Transformer."
    )
    num_heads: int = Field(4, ge=1, description="Attention heads and norm groups.")
    num_axial_heads: int = Field(
        1, ge=1, description="Heads of the 4D attention; narrow ones are slow on a CPU."
    )
    dropout: float = Field(
        0.3, ge=0, lt=1, description="In the Transformer's branches, while training."
    )
    token_dropout: float = Field(
        0.5, ge=0, lt=1, description="Of the tokens' features, while training."
    )

    @model_validator(mode="after")
    def _check_numbers_fit(self) -> "AcfNetConfig":
        heads = self.num_heads
        if self.channels % (2 * heads) or self.token_width % (2 * heads):
            raise ValueError(
                f"channels ({self.channels}) and token_width ({self.token_width}) must "
                f"be multiples of twice num_heads ({heads})"
            )
        if self.channels % self.num_axial_heads:
            raise ValueError(
                f"channels ({self.channels}) must be a multiple of num_axial_heads "
                f"({self.num_axial_heads})"
            )
        if any(step < 2 or step % 2 for step in self.reduction):
            raise ValueError(f"reduction {self.reduction} must be even numbers from 2")
        hazards = self.initial_hazard
        if hazards is None:
            return self
        if len(hazards) != self.num_bins or not all(0 < h < 1 for h in hazards):
            raise ValueError(
                f"initial_hazard must be {self.num_bins} numbers between 0 and 1"
            )
        return self

    @property
    def num_bins(self) -> int:
        """Number of hazard bins."""
        return self.num_years * self.bins_per_year

    @property
    def num_virtual_years(self) -> int:
        """Number of virtual years, and so of risk maps."""
        return 1 if self.virtual_years == "one" else self.num_years

    @property
    def years_each(self) -> int:
        """Years of the horizon for which each virtual year stands."""
        return self.num_years // self.num_virtual_years

    @property
    def risk_map_years(self) -> tuple[int, ...]:
        """Last year after resection for which each risk map stands."""
        return tuple(range(self.years_each, self.num_years + 1, self.years_each))

    @property
    def reads_images(self) -> bool:
        """Whether the network has an image branch."""
        return self.modalities != "clinical"

    @property
    def reads_columns(self) -> bool:
        """Whether the network has a clinical branch, and so something to fuse."""
        return self.modalities != "image"

    @property
    def bin_width_months(self) -> float:
        """Width of a bin; bin k covers (k * width, (k + 1) * width] months."""
        return MONTHS_PER_YEAR / self.bins_per_year

    @property
    def bin_edges_months(self) -> tuple[float, ...]:
        """Right edge of every bin, where `survival` is stated."""
        return tuple((k + 1) * self.bin_width_months for k in range(self.num_bins))

    @property
    def starting_hazard(self) -> tuple[float, ...]:
        """Hazard of every bin at which an untrained network stands."""
        if self.initial_hazard is not None:
            return self.initial_hazard
        half_years = 2.0 / self.bins_per_year
        return (1 - (1 - HAZARD_OF_HALF_A_YEAR) ** half_years,) * self.num_bins
