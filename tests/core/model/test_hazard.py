import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.model.hazard import (
    CompetingDeath,
    GatedHazardHead,
    HazardLogits,
    TemporalUpsampler,
    survival_curves,
)

logits_lists = st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=16)


def test_upsampler_starts_as_interpolation_between_midpoints() -> None:
    found = TemporalUpsampler(3, 6)(torch.tensor([[0.0, 1.0, 2.0]]))
    expected = [[0.0, 0.25, 0.75, 1.25, 1.75, 2.0]]
    assert torch.allclose(found, torch.tensor(expected))


def test_upsampler_treats_states_as_it_treats_logits() -> None:
    upsampler = TemporalUpsampler(3, 6)
    states = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    found = upsampler.upsample_states(states)
    assert torch.allclose(found[:, :, 2], upsampler(states[:, :, 2]), atol=1e-6)


def _head(*, has_image: bool, has_clinical: bool) -> HazardLogits:
    head = GatedHazardHead(4, torch.full((6,), 0.2))
    torch.nn.init.constant_(head.gate.weight, 0.3)
    return head(
        torch.ones(1, 6, 4),
        torch.full((1, 6), 0.7),
        torch.full((1, 6), -0.4),
        torch.tensor([has_image]),
        torch.tensor([has_clinical]),
    )


def test_the_gate_mixes_the_two_logits() -> None:
    logits = _head(has_image=True, has_clinical=True)
    assert ((logits.gate > 0) & (logits.gate < 1)).all()
    mixed = logits.gate * logits.image + (1 - logits.gate) * logits.clinical
    assert (logits.residual != 0).all()
    assert torch.equal(logits.mixed, mixed + logits.residual)


def test_without_images_only_the_clinical_logit_and_the_residual_stand() -> None:
    logits = _head(has_image=False, has_clinical=True)
    assert torch.equal(logits.mixed, logits.clinical + logits.residual)


def test_without_clinical_columns_only_the_image_logit_and_the_residual_stand() -> None:
    logits = _head(has_image=True, has_clinical=False)
    assert torch.equal(logits.mixed, logits.image + logits.residual)


def test_with_neither_the_clinical_bias_answers() -> None:
    assert (_head(has_image=False, has_clinical=False).gate == 0).all()


@given(hazards=logits_lists, deaths=st.floats(-40, 40, width=32) | st.none())
@settings(deadline=None, max_examples=60)
def test_survival_never_rises(hazards: list[float], deaths: float | None) -> None:
    logits = torch.tensor([hazards])
    competing = None if deaths is None else torch.full_like(logits, deaths)
    curves = survival_curves(logits, competing)
    assert (curves.survival.diff(dim=1) <= 0).all()
    assert ((curves.survival >= 0) & (curves.survival <= 1)).all()
    assert (curves.cumulative_incidence.diff(dim=1) >= 0).all()


@given(hazards=logits_lists)
@settings(deadline=None, max_examples=30)
def test_survival_and_incidence_share_all_probability(hazards: list[float]) -> None:
    curves = survival_curves(torch.tensor([hazards]))
    total = curves.survival + curves.cumulative_incidence
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_curves_of_two_causes_by_hand() -> None:
    """Hazards 1/2 then 1/4, deaths 1/5 in both: S = 0.4, 0.24; F = 0.5, 0.6."""
    hazard = torch.tensor([[0.5, 0.25]])
    curves = survival_curves(hazard.logit(), torch.full((1, 2), 0.2).logit())
    assert curves.survival.tolist() == [pytest.approx([0.4, 0.24])]
    assert curves.cumulative_incidence.tolist() == [pytest.approx([0.5, 0.6])]


def test_competing_death_is_the_same_for_every_patient() -> None:
    logits = CompetingDeath(4, 0.05)(torch.tensor([True, False]))
    assert torch.equal(logits[0], logits[1])
    assert logits.sigmoid()[0].tolist() == pytest.approx([0.05] * 4)
