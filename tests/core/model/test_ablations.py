import dataclasses

import pytest
import torch
from references.model_inputs import (
    NUM_FEATURES,
    make_inputs,
    make_network,
    tensors_of,
    with_gaps,
    without_scans,
)

from acfnet_core.model.ablations import ABLATIONS, ablated_config
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.model.timestamps import year_midpoints_months
from acfnet_core.objective.loss import LossConfig, total_loss

IMAGE_PARTS = (
    "stem.",
    "scan_stages.",
    "expansion.",
    "attention.",
    "readout.",
    "head.image_bias.",
)
CLINICAL_PARTS = (
    "tokenizer.",
    "linear_path.",
    "fusion.",
    "readout.token.",
    "head.residual.",
    "head.clinical_bias.",
)


def make_ablated(name: str) -> AcfNet:
    return make_network(**ABLATIONS[name].model).eval()


def other_scans(inputs: PatientInputs) -> PatientInputs:
    return dataclasses.replace(
        inputs,
        scans=3 * inputs.scans + 1,
        scan_time_months=inputs.scan_time_months + 9,
    )


def other_columns(inputs: PatientInputs) -> PatientInputs:
    return dataclasses.replace(inputs, clinical=3 * inputs.clinical + 1)


def assert_same_output(
    model: AcfNet, first: PatientInputs, second: PatientInputs
) -> None:
    expected = tensors_of(model(second))
    for name, tensor in tensors_of(model(first)).items():
        assert torch.equal(tensor, expected[name]), name


def parts_of(model: AcfNet, parts: tuple[str, ...]) -> set[str]:
    """Return which of the parts have parameters in the network."""
    names = [name for name, _ in model.named_parameters()]
    return {part for part in parts if any(name.startswith(part) for name in names)}


def test_the_whole_network_is_what_the_others_are_compared_with() -> None:
    config = AcfNetConfig(num_clinical_features=NUM_FEATURES)
    assert ablated_config(config, "none") == config
    assert dict(ABLATIONS["none"].loss) == {}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_the_stated_settings_alone(name: str) -> None:
    whole = AcfNetConfig(num_clinical_features=NUM_FEATURES, size="small")
    stated = whole.model_dump() | dict(ABLATIONS[name].model)
    assert ablated_config(whole, name).model_dump() == stated
    assert (name == "none") == (not ABLATIONS[name].model and not ABLATIONS[name].loss)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_parameter_of_an_ablation_learns(name: str) -> None:
    network = make_network(**ABLATIONS[name].model)
    network(make_inputs()).survival.sum().backward()
    idle = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert idle == []


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_answers_whatever_is_missing(name: str) -> None:
    inputs = with_gaps(make_inputs(), filler=float("nan"))
    output = make_ablated(name)(inputs)
    assert output.survival.shape == (3, 16)
    assert all(t.isfinite().all() for t in tensors_of(output).values())


@pytest.mark.parametrize("name", ["clinical_only", "image_only"])
def test_one_modality_has_nothing_to_align(name: str) -> None:
    terms = total_loss(
        make_ablated(name)(make_inputs()),
        time_bin=torch.tensor([3, 5, 16]),
        kind=torch.tensor([1, 0, 0]),
        config=LossConfig(),
    )
    assert (terms.alignment == 0).all()


@pytest.mark.parametrize("name", ["clinical_only", "image_only"])
def test_one_modality_starts_at_the_cohort_s_hazards(name: str) -> None:
    config = ablated_config(AcfNetConfig(num_clinical_features=NUM_FEATURES), name)
    network = build_model(config, seed=1)
    hazard = network.eval()(make_inputs()).hazard
    assert torch.allclose(hazard, torch.tensor(0.1), atol=0.03)


def test_an_ablation_that_there_is_not_is_refused() -> None:
    config = AcfNetConfig(num_clinical_features=NUM_FEATURES)
    with pytest.raises(ValueError, match=r"'no_gate' is none of none, clinical_only"):
        ablated_config(config, "no_gate")


def test_clinical_only_answers_the_same_whatever_the_scans_are() -> None:
    model, inputs = make_ablated("clinical_only"), make_inputs()
    assert_same_output(model, inputs, other_scans(inputs))
    without = model(without_scans(inputs)).hazard_logits
    assert torch.equal(model(inputs).hazard_logits, without)


def test_clinical_only_has_no_image_parameters() -> None:
    model = make_ablated("clinical_only")
    assert parts_of(make_ablated("none"), IMAGE_PARTS) == set(IMAGE_PARTS)
    assert parts_of(model, IMAGE_PARTS) == set()
    assert not hasattr(model.head, "gate")


def test_clinical_only_is_the_clinical_logit_and_its_residual() -> None:
    output = make_ablated("clinical_only")(make_inputs())
    expected = output.clinical_logits + output.residual_logits
    assert torch.equal(output.hazard_logits, expected)
    assert (output.gate == 0).all()
    assert not output.has_image.any()


def test_image_only_answers_the_same_whatever_the_columns_are() -> None:
    model, inputs = make_ablated("image_only"), make_inputs()
    assert_same_output(model, inputs, other_columns(inputs))
    unknown = dataclasses.replace(
        inputs, clinical_mask=torch.zeros_like(inputs.clinical_mask)
    )
    assert_same_output(model, inputs, unknown)


def test_image_only_has_no_clinical_parameters() -> None:
    model = make_ablated("image_only")
    assert parts_of(make_ablated("none"), CLINICAL_PARTS) == set(CLINICAL_PARTS)
    assert parts_of(model, CLINICAL_PARTS) == set()
    assert not hasattr(model.head, "gate")


def test_image_only_is_explained_by_its_risk_maps() -> None:
    model = make_ablated("image_only")
    output = model(make_inputs())
    year_sums = output.risk_maps.sum(dim=(2, 3, 4))
    explained = model.upsampler(year_sums) + model.head.image_bias.weight
    assert torch.allclose(explained, output.hazard_logits, atol=1e-5)
    assert (output.gate == 1).all()


def test_image_only_gives_a_patient_without_scans_its_bias() -> None:
    model = make_ablated("image_only")
    logits = model(without_scans(make_inputs())).hazard_logits
    assert torch.equal(logits, model.head.image_bias.weight.expand(3, -1))


def test_one_virtual_year_has_one_map_and_all_bins() -> None:
    model = make_ablated("one_virtual_year")
    output = model(make_inputs())
    assert output.risk_maps.shape == (3, 1, 2, 2, 2)
    assert output.image_year_logits.shape == (3, 1)
    assert output.hazard.shape == (3, 16)
    assert model.config.bin_edges_months[-1] == 96.0


def test_one_virtual_year_stands_for_the_middle_of_the_horizon() -> None:
    assert year_midpoints_months(1, years_each=8).tolist() == [48.0]
    encoder = make_ablated("one_virtual_year").expansion.timestamps
    assert (encoder.num_years, encoder.years_each) == (1, 8)


def test_risk_maps_are_of_each_year_or_of_the_whole_horizon() -> None:
    each = make_ablated("none").config.risk_map_years
    assert each == (1, 2, 3, 4, 5, 6, 7, 8)
    assert make_ablated("one_virtual_year").config.risk_map_years == (8,)


def test_one_virtual_year_gives_all_bins_one_course_of_the_image() -> None:
    """Patients' image logits differ by the same multiple of one number in every bin."""
    model = make_ablated("one_virtual_year")
    output = model(make_inputs())
    apart = output.image_logits[0] - output.image_logits[1]
    year_apart = output.image_year_logits[0] - output.image_year_logits[1]
    assert torch.allclose(apart, model.upsampler.weight[:, 0] * year_apart, atol=1e-5)


def test_full_convolution_has_whole_kernels_alone() -> None:
    model = make_ablated("full_convolution")
    kinds = {type(module).__name__ for module in model.modules()}
    assert "FullConv4D" in kinds
    assert "SpatiotemporalSeparableConv" not in kinds


def test_a_fixed_gate_is_one_half_wherever_both_modalities_are_there() -> None:
    inputs = with_gaps(make_inputs(), filler=0.0)
    gate = make_ablated("fixed_gate")(inputs).gate
    assert (gate[0] == 0.5).all()
    assert (gate[1] == 0).all()
    assert (gate[2] == 1).all()


def test_a_learned_gate_is_not_one_half() -> None:
    gate = make_ablated("none")(make_inputs()).gate
    assert (gate != 0.5).all()


@pytest.mark.parametrize("term", ["alignment", "disentanglement"])
def test_a_loss_taken_away_has_no_part_in_the_total(term: str) -> None:
    config = LossConfig.model_validate(dict(ABLATIONS[f"no_{term}"].loss))
    terms = total_loss(
        make_ablated("none")(make_inputs()),
        time_bin=torch.tensor([3, 5, 16]),
        kind=torch.tensor([1, 0, 0]),
        config=config,
    )
    others = {"survival", "alignment", "disentanglement", "smoothness"} - {term}
    weights = LossConfig().model_dump()
    expected = sum(weights[name] * getattr(terms, name) for name in sorted(others))
    assert (getattr(terms, term) > 0).all()
    assert torch.allclose(terms.total, torch.as_tensor(expected))
