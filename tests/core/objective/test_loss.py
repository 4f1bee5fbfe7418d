from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.model_inputs import (
    make_inputs,
    make_network,
    select_patients,
    with_gaps,
    without_scans,
)
from references.survival_likelihood import (
    cosine,
    mean_squared_cross_covariance,
    negative_log_likelihood,
)

from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import (
    LossConfig,
    LossTerms,
    alignment_loss,
    cross_covariance_loss,
    disentanglement_loss,
    smoothness_loss,
    survival_loss,
    total_loss,
)
from acfnet_core.objective.time_bins import discretise_times

YES = torch.tensor([True])
NO = torch.tensor([False])
TIMES = torch.tensor([7.0, 30.0, 200.0])
EVENTS = torch.tensor([1, 0, 1])


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_likelihood_by_hand() -> None:
    """An event in bin 1 at hazards 0.2 and 0.5: -log(0.8) - log(0.5) = 0.916291."""
    logits = torch.tensor([[0.2, 0.5, 0.9]]).logit()
    loss = survival_loss(logits, torch.tensor([1]), torch.tensor([1]))
    assert float(loss) == pytest.approx(0.916290731874155, rel=1e-6)


def test_the_bin_of_censoring_says_nothing() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.9]]).logit()
    loss = survival_loss(logits, torch.tensor([1]), torch.tensor([0]))
    assert float(loss) == pytest.approx(-log(0.8), rel=1e-6)


@given(
    logits=st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    deaths=st.lists(st.floats(-5, 5), min_size=4, max_size=4) | st.none(),
    time=st.floats(0, 40) | st.sampled_from([6.0, 12.0, 24.0]),
    event=st.integers(0, 2),
)
@settings(deadline=None, max_examples=150)
def test_likelihood_equals_the_walk_through_the_bins(
    logits: list[float], deaths: list[float] | None, time: float, event: int
) -> None:
    event = min(event, 1) if deaths is None else event
    time_bin, kind = discretise_times(
        torch.tensor([time], dtype=torch.float64),
        torch.tensor([event]),
        num_bins=4,
        bin_width_months=6.0,
    )
    competing = None if deaths is None else torch.tensor([deaths], dtype=torch.float64)
    found = survival_loss(
        torch.tensor([logits], dtype=torch.float64),
        time_bin,
        kind,
        competing_logits=competing,
    )
    expected = negative_log_likelihood(
        logits, time, event, bin_width_months=6.0, death_logits=deaths
    )
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_a_competing_death_needs_its_hazard() -> None:
    with pytest.raises(ValueError, match="needs a network that models it"):
        survival_loss(_random(1, 3), torch.tensor([1]), torch.tensor([2]))


def test_extreme_logits_have_a_finite_loss_and_slope() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = survival_loss(logits, torch.tensor([1]), torch.tensor([1]))
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert float(loss.detach()) == pytest.approx(400.0)
    assert slope.isfinite().all()


def test_alignment_is_one_minus_the_cosine() -> None:
    first, second = _random(2, 1, 6)
    found = alignment_loss(first, second, has_both=YES)
    expected = 1 - cosine(first[0].tolist(), second[0].tolist())
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_alignment_is_nothing_for_one_modality() -> None:
    first, second = _random(2, 1, 6)
    assert float(alignment_loss(first, second, has_both=NO)) == 0


def test_a_zero_embedding_has_a_finite_slope() -> None:
    zero = torch.zeros(1, 6, requires_grad=True)
    loss = alignment_loss(zero, _random(1, 6), has_both=YES)
    (slope,) = torch.autograd.grad(loss.sum(), zero)
    assert slope.isfinite().all()


def test_disentanglement_is_the_squared_cosine() -> None:
    first, second = _random(2, 1, 6)
    found = disentanglement_loss(first, second, has_modality=YES)
    expected = cosine(first[0].tolist(), second[0].tolist()) ** 2
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_cross_covariance_equals_the_loops() -> None:
    tokens = _random(2, 5, 6)
    expected = [mean_squared_cross_covariance(t) for t in tokens.tolist()]
    found = cross_covariance_loss(tokens).tolist()
    assert found == pytest.approx(expected, rel=1e-5)


def test_smoothness_is_the_mean_squared_step() -> None:
    loss = smoothness_loss(torch.tensor([[0.0, 1.0, 3.0]]))
    assert float(loss) == pytest.approx((1 + 4) / 2)


def test_one_bin_is_smooth() -> None:
    assert float(smoothness_loss(torch.tensor([[2.0]]))) == 0


def _terms(
    model: AcfNet, inputs: PatientInputs, patients: list[int] | None = None
) -> LossTerms:
    chosen = [0, 1, 2] if patients is None else patients
    time_bin, kind = discretise_times(TIMES, EVENTS, num_bins=16, bin_width_months=6.0)
    return total_loss(
        model(select_patients(inputs, chosen)),
        time_bin=time_bin[chosen],
        kind=kind[chosen],
        config=LossConfig(),
    )


def _gradient(
    model: AcfNet, inputs: PatientInputs, patients: list[int]
) -> torch.Tensor:
    """Return the flat gradient of the mean loss, zero where there is none."""
    return _slopes(model, _terms(model, inputs, patients).mean)


def _slopes(model: AcfNet, value: torch.Tensor) -> torch.Tensor:
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(value, parameters, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in slopes])


def test_total_is_the_weighted_sum() -> None:
    terms = _terms(make_network(), make_inputs())
    expected = (
        terms.survival
        + 0.1 * terms.alignment
        + 0.01 * terms.disentanglement
        + 0.01 * terms.smoothness
    )
    assert torch.allclose(terms.total, expected)


def test_the_loss_is_the_mean_of_the_patients_totals() -> None:
    terms = _terms(make_network(), make_inputs())
    assert torch.equal(terms.mean, terms.total.mean())


def test_a_cohort_without_imaging_has_no_alignment() -> None:
    terms = _terms(make_network(), without_scans(make_inputs()))
    assert (terms.alignment == 0).all()


def test_everything_missing_leaves_finite_gradients() -> None:
    inputs = with_gaps(make_inputs(), filler=float("nan"))
    assert _gradient(make_network(), inputs, [0, 1, 2]).isfinite().all()


@pytest.mark.parametrize("parts", [([0], [1, 2]), ([2, 0], [1]), ([0], [1], [2])])
def test_the_pooled_gradient_is_the_mean_over_any_partition(
    parts: tuple[list[int], ...],
) -> None:
    model = make_network().double()
    inputs = _in_double(with_gaps(make_inputs(), filler=0.0))
    pooled = _gradient(model, inputs, [0, 1, 2])
    weighted = [len(p) / 3 * _gradient(model, inputs, p) for p in parts]
    assert torch.allclose(pooled, torch.stack(weighted).sum(dim=0), atol=1e-10)


def test_a_patient_s_gradient_does_not_depend_on_the_others() -> None:
    """The slope of one patient's term in a batch is that of the patient alone."""
    model = make_network().double()
    inputs = _in_double(make_inputs())
    in_batch = _slopes(model, _terms(model, inputs).total[1])
    alone = _gradient(model, inputs, [1])
    assert torch.allclose(in_batch, alone, atol=1e-10)


def _in_double(inputs: PatientInputs) -> PatientInputs:
    return PatientInputs(
        **{
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in vars(inputs).items()
        }
    )
