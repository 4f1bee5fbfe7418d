import torch

from acfnet_core.model.attention import (
    AxialAttention4D,
    CrossModalTransformer,
    SelfAttention,
)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def test_attention_equals_its_formula() -> None:
    layer = SelfAttention(4, 1)
    tokens = _random(2, 3, 5, 4)
    query, key, value = layer.query_key_value(tokens).chunk(3, dim=-1)
    share = (query @ key.transpose(-1, -2) / 2.0).softmax(dim=-1)
    assert torch.allclose(layer(tokens), layer.out(share @ value), atol=1e-6)


def test_attention_keeps_groups_apart() -> None:
    layer, tokens = SelfAttention(4, 2), _random(1, 3, 5, 4)
    changed = tokens.clone()
    changed[:, 0] += 1
    assert torch.allclose(layer(tokens)[:, 1:], layer(changed)[:, 1:], atol=1e-6)


def test_attention_does_not_see_masked_tokens() -> None:
    layer, tokens = SelfAttention(4, 2), _random(1, 1, 5, 4)
    mask = torch.tensor([[True, True, True, False, True]])
    changed = tokens.clone()
    changed[:, :, 3] = 50
    same = [0, 1, 2, 4]
    found = layer(tokens, mask)[:, :, same]
    assert torch.equal(found, layer(changed, mask)[:, :, same])


def test_4d_attention_reaches_every_place_of_every_year() -> None:
    """A change in one corner of one year is felt in the far corner of another."""
    layer = AxialAttention4D(4, 2)
    years = _random(1, 3, 4, 2, 2, 2).requires_grad_()
    layer(years)[0, 2, :, 1, 1, 1].square().sum().backward()
    assert years.grad is not None
    assert (years.grad.abs().sum(dim=2) > 0).all()


def test_4d_attention_starts_near_the_identity() -> None:
    years = _random(1, 3, 4, 2, 2, 2)
    assert torch.allclose(AxialAttention4D(4, 2)(years), years, atol=0.2)


def _fused(
    *, has_image: bool = True, known: bool = True, image: float = 0, column: float = 0
) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        layer = CrossModalTransformer(
            8, num_years=3, num_layers=1, num_heads=2, dropout=0.0, token_dropout=0.0
        )
    years, columns = _random(1, 3, 8) + image, _random(1, 4, 8)
    columns[:, 1, 0] += column
    mask = torch.tensor([[True, known, True, True]])
    return layer(years, columns, torch.tensor([has_image]), mask)


def test_fusion_carries_clinical_columns_to_the_years() -> None:
    assert not torch.equal(_fused(column=3.0), _fused())


def test_fusion_does_not_see_unknown_columns() -> None:
    assert torch.equal(_fused(known=False, column=3.0), _fused(known=False))


def test_fusion_does_not_see_the_tokens_of_absent_images() -> None:
    found = _fused(has_image=False, image=3.0)
    assert torch.equal(found, _fused(has_image=False))


def test_fusion_tells_years_apart_without_images() -> None:
    states = _fused(has_image=False)
    assert not torch.allclose(states[:, 0], states[:, 2])
