"""Attention: over space and time of the image, and over the tokens of both modalities.

Axes: `batch group token feature` inside; `batch year channel depth height width` for
the image. `group` are sequences of one patient that do not see each other.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

RESIDUAL_STD = 0.02
"""Initial spread of the last weight of each residual branch: nearly the identity."""


class SelfAttention(nn.Module):
    """Multi-head attention of tokens within each group of a patient.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1. It is written with plain
    linear layers because per-patient gradients of `nn.MultiheadAttention` need a
    replacement layer in every engine that clips them.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.out.weight, std=RESIDUAL_STD)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "batch group token feature"],
        token_mask: Bool[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch group token feature"]:
        """Let each token of a group look at those that exist."""
        num_groups = tokens.shape[1]
        # Patients and groups share an axis: torch has fused kernels, which never hold
        # the table of all pairs, for four axes and none for five.
        query, key, value = rearrange(
            self.query_key_value(tokens),
            "b g t (three n f) -> three (b g) n t f",
            three=3,
            n=self.num_heads,
        )
        visible = None
        if token_mask is not None:
            visible = repeat(token_mask, "b t -> (b g) 1 1 t", g=num_groups)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible
        )
        return self.out(rearrange(mixed, "(b g) n t f -> b g t (n f)", g=num_groups))


class AxialAttention4D(nn.Module):
    """Attention over all four axes, in two steps: space, then time.

    First the places of one year look at each other, then the years of one place. Two
    steps cost `Y N^2 + N Y^2` pairs of tokens where joint attention costs `(Y N)^2`.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.space_norm = nn.LayerNorm(channels)
        self.space = SelfAttention(channels, num_heads)
        self.time_norm = nn.LayerNorm(channels)
        self.time = SelfAttention(channels, num_heads)

    def forward(
        self, years: Float[Tensor, "batch year channel depth height width"]
    ) -> Float[Tensor, "batch year channel depth height width"]:
        """Add to every place of every year what the others tell it."""
        depth, height, width = years.shape[3:]
        places = rearrange(years, "b y c d h w -> b y (d h w) c")
        places = places + self.space(self.space_norm(places))
        courses = rearrange(places, "b y n c -> b n y c")
        courses = courses + self.time(self.time_norm(courses))
        return rearrange(
            courses, "b (d h w) y c -> b y c d h w", d=depth, h=height, w=width
        )


class TransformerLayer(nn.Module):
    """One pre-norm Transformer layer over the tokens of a patient.

    Source: Xiong et al. 2020, arXiv 2002.04745, figure 1b.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.attention_dropout = nn.Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 2 * width)
        self.activation = nn.GELU()
        self.mlp_out = nn.Linear(2 * width, width)
        self.mlp_dropout = nn.Dropout(dropout)
        nn.init.normal_(self.mlp_out.weight, std=RESIDUAL_STD)
        nn.init.zeros_(self.mlp_out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "batch token feature"],
        token_mask: Bool[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token feature"]:
        """Mix the tokens, then transform each."""
        one_group = self.attention_norm(tokens).unsqueeze(1)
        mixed = self.attention(one_group, token_mask).squeeze(1)
        tokens = tokens + self.attention_dropout(mixed)
        hidden = self.activation(self.mlp_in(self.mlp_norm(tokens)))
        return tokens + self.mlp_dropout(self.mlp_out(hidden))


class CrossModalTransformer(nn.Module):
    """Fuse image tokens (one a year) and clinical tokens (one a column).

    A class token that is always there joins them, so that even a patient of whom
    nothing is known has something to look at. The state of year j is the class token's
    output plus a code of the year plus, if there are images, the output of the year's
    own token.

    While training, features of the tokens are dropped at random. The linear path does
    not go through here, so that what is dropped is the part that a cohort of 150 would
    otherwise learn by heart.
    """

    def __init__(
        self,
        width: int,
        *,
        num_years: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        token_dropout: float,
    ) -> None:
        super().__init__()
        self.num_years = num_years
        self.token_dropout = nn.Dropout(token_dropout)
        self.class_token = nn.Embedding(1, width)
        self.year_position = nn.Embedding(num_years, width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, num_heads, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.class_token.weight, std=0.5)
        nn.init.normal_(self.year_position.weight, std=0.5)

    def forward(
        self,
        year_tokens: Float[Tensor, "batch year feature"],
        clinical_tokens: Float[Tensor, "batch column feature"],
        has_image: Bool[Tensor, " batch"],
        clinical_mask: Bool[Tensor, "batch column"],
    ) -> Float[Tensor, "batch year feature"]:
        """Return one fused state for every virtual year."""
        num_patients, device = len(has_image), has_image.device
        # Embeddings are looked up once for each patient, so that each has a gradient.
        only = torch.zeros((num_patients, 1), dtype=torch.long, device=device)
        index = torch.arange(self.num_years, device=device)
        position = self.year_position(index.expand(num_patients, -1))

        known = torch.cat([year_tokens + position, clinical_tokens], dim=1)
        tokens = torch.cat([self.class_token(only), self.token_dropout(known)], dim=1)
        image_mask = has_image.unsqueeze(1)
        token_mask = torch.cat(
            [only == 0, image_mask.expand(-1, self.num_years), clinical_mask], dim=1
        )
        for layer in self.layers:
            tokens = layer(tokens, token_mask)

        own = tokens[:, 1 : 1 + self.num_years]
        own = torch.where(image_mask.unsqueeze(2), own, torch.zeros_like(own))
        return self.norm(tokens[:, :1] + position + own)
