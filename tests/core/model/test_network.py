import dataclasses

import pytest
import torch
from pydantic import ValidationError
from references.model_inputs import (
    NUM_FEATURES,
    make_inputs,
    make_network,
    select_patients,
    tensors_of,
    with_gaps,
    without_scans,
)

from acfnet_core.model.network import AcfNet, AcfNetConfig, AcfNetOutput, build_model

NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> AcfNet:
    return make_network().eval()


def _assert_same_bits(first: AcfNetOutput, second: AcfNetOutput) -> None:
    others = tensors_of(second)
    for name, tensor in tensors_of(first).items():
        assert torch.equal(tensor, others[name]), name


def test_output_has_the_agreed_shapes(model: AcfNet) -> None:
    output = model(make_inputs())
    assert output.survival.shape == (3, 16)
    assert output.risk_maps.shape == (3, 8, 2, 2, 2)


@pytest.mark.parametrize("expand_at", ["stem", "stage1", "stage2"])
@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_every_arrangement_answers(expand_at: str, convolution: str) -> None:
    network = make_network(expand_at=expand_at, convolution=convolution)
    assert network(make_inputs(num_patients=1)).survival.isfinite().all()


def test_what_stands_in_masked_places_changes_no_bit(model: AcfNet) -> None:
    zeros = model(with_gaps(make_inputs(), filler=0.0))
    _assert_same_bits(zeros, model(with_gaps(make_inputs(), filler=NAN)))


def test_masked_places_have_no_part_in_the_gradient() -> None:
    gradients = []
    for filler in (0.0, NAN):
        network = make_network()
        network(with_gaps(make_inputs(), filler=filler)).survival.sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient is not None
        assert other is not None
        assert torch.equal(gradient, other), name


def test_the_order_of_scans_changes_no_bit(model: AcfNet) -> None:
    inputs = make_inputs(num_scans=3)
    order = [2, 0, 1]
    shuffled = dataclasses.replace(
        inputs,
        scans=inputs.scans[:, order],
        scan_time_months=inputs.scan_time_months[:, order],
    )
    _assert_same_bits(model(inputs), model(shuffled))


def test_padding_with_absent_scans_changes_nothing(model: AcfNet) -> None:
    padded = make_inputs(num_scans=3)
    padded.scan_mask[:, 2] = False
    short = dataclasses.replace(
        padded,
        scans=padded.scans[:, :2],
        scan_time_months=padded.scan_time_months[:, :2],
        scan_mask=padded.scan_mask[:, :2],
        channel_mask=padded.channel_mask[:, :2],
    )
    found = model(padded).hazard_logits
    assert torch.allclose(found, model(short).hazard_logits, atol=1e-5)


def test_the_times_of_scans_matter(model: AcfNet) -> None:
    inputs = make_inputs()
    later = dataclasses.replace(inputs, scan_time_months=inputs.scan_time_months + 12)
    assert not torch.allclose(model(inputs).hazard, model(later).hazard)


def test_a_cohort_without_imaging_is_answered(model: AcfNet) -> None:
    output = model(without_scans(make_inputs()))
    assert output.survival.isfinite().all()
    assert (output.gate == 0).all()
    assert not output.has_image.any()


def test_a_cohort_without_imaging_needs_no_grid(model: AcfNet) -> None:
    inputs = without_scans(make_inputs())
    gridless = dataclasses.replace(inputs, scans=torch.zeros(3, 0, 4, 0, 0, 0))
    assert torch.equal(model(gridless).survival, model(inputs).survival)


def test_a_patient_without_scans_does_not_notice_the_others(model: AcfNet) -> None:
    """The image branch runs for the batch on the left and is skipped on the right."""
    mixed = with_gaps(make_inputs(), filler=0.0)
    beside, alone = model(mixed), model(select_patients(mixed, [1]))
    for name, tensor in tensors_of(beside).items():
        assert torch.allclose(tensor[1:2], tensors_of(alone)[name], atol=1e-6), name


def test_a_patient_s_prediction_does_not_depend_on_the_batch(model: AcfNet) -> None:
    inputs = make_inputs()
    alone = model(select_patients(inputs, [2])).hazard_logits
    assert torch.allclose(model(inputs).hazard_logits[2:], alone, atol=1e-5)


def test_a_patient_of_whom_nothing_is_known_is_answered(model: AcfNet) -> None:
    inputs = without_scans(make_inputs(num_patients=1))
    unknown = dataclasses.replace(
        inputs, clinical=inputs.clinical * NAN, clinical_mask=~inputs.clinical_mask
    )
    assert model(unknown).survival.isfinite().all()


def test_risk_maps_explain_the_image_logit_of_every_bin(model: AcfNet) -> None:
    output = model(make_inputs())
    year_sums = output.risk_maps.sum(dim=(2, 3, 4))
    explained = model.upsampler(year_sums) + model.head.image_bias.weight
    assert torch.allclose(explained, output.image_logits, atol=1e-5)


def test_survival_is_the_product_of_staying_free(model: AcfNet) -> None:
    output = model(make_inputs())
    expected = (1 - output.hazard).cumprod(dim=1)
    assert torch.allclose(output.survival, expected, atol=1e-6)


def test_competing_death_lowers_survival() -> None:
    inputs = make_inputs()
    output = make_network(competing_death=True)(inputs)
    alone = (1 - output.hazard).cumprod(dim=1)
    assert (output.survival < alone).all()


def test_training_starts_at_the_cohort_s_hazards() -> None:
    hazards = tuple(0.05 + 0.01 * k for k in range(16))
    config = AcfNetConfig(num_clinical_features=NUM_FEATURES, initial_hazard=hazards)
    output = build_model(config, seed=1).eval()(make_inputs())
    expected = torch.tensor(hazards).expand(3, -1)
    assert torch.allclose(output.hazard, expected, atol=0.03)


def test_every_parameter_learns_from_patients_with_everything() -> None:
    network = make_network(competing_death=True)
    network(make_inputs()).survival.sum().backward()
    idle = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert idle == []


def test_the_seed_alone_decides_the_parameters() -> None:
    config = AcfNetConfig(num_clinical_features=NUM_FEATURES)
    first = build_model(config, seed=7).state_dict()
    torch.rand(3)
    second = build_model(config, seed=7).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    build_model(AcfNetConfig(num_clinical_features=NUM_FEATURES), seed=7)
    assert torch.equal(before, torch.get_rng_state())


def test_parameters_can_be_stored_as_they_are(model: AcfNet) -> None:
    state = model.state_dict()
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in state.values())
    assert len({t.data_ptr() for t in state.values()}) == len(state)


def test_a_grid_that_the_map_cannot_cover_is_refused(model: AcfNet) -> None:
    inputs = make_inputs()
    cut = dataclasses.replace(inputs, scans=inputs.scans[..., :15])
    with pytest.raises(ValueError, match=r"grid \(8, 16, 15\) must be a multiple of"):
        model(cut)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_hazard": (0.1, 0.2)}, "must be 16 numbers between 0 and 1"),
        ({"token_width": 36}, "multiples of twice num_heads"),
        ({"reduction": (4, 8, 3)}, "must be even numbers from 2"),
        ({"size": "huge"}, "'tiny', 'small' or 'base'"),
        ({"depth": 3}, "Extra inputs are not permitted"),
    ],
)
def test_faulty_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AcfNetConfig.model_validate({"num_clinical_features": 3, **settings})


def test_a_stored_configuration_builds_the_same_network() -> None:
    config = AcfNetConfig(num_clinical_features=3, size="small", token_width=40)
    assert AcfNetConfig.model_validate_json(config.model_dump_json()) == config


def test_bins_are_half_years_by_default() -> None:
    config = AcfNetConfig(num_clinical_features=3)
    assert config.bin_edges_months == tuple(6.0 * k for k in range(1, 17))


def test_finer_bins_start_at_the_same_yearly_hazard() -> None:
    config = AcfNetConfig(num_clinical_features=3, bins_per_year=4)
    assert (1 - config.starting_hazard[0]) ** 2 == pytest.approx(0.9)


def test_dropout_is_off_outside_training() -> None:
    network = make_network(dropout=0.5, token_dropout=0.5).eval()
    _assert_same_bits(network(make_inputs()), network(make_inputs()))
