import torch

from acfnet_core.model.clinical import ClinicalTokenizer, LinearClinicalPath


def test_a_token_is_scale_times_value_plus_offset() -> None:
    tokenizer = ClinicalTokenizer(3, 4)
    tokens = tokenizer(torch.tensor([[0.5, -1.0, 2.0]]))
    expected = -1.0 * tokenizer.scale.weight[1] + tokenizer.offset.weight[1]
    assert torch.allclose(tokens[0, 1], expected)


def test_linear_path_starts_at_zero() -> None:
    path = LinearClinicalPath(3, 8)
    assert torch.equal(path(torch.ones(2, 3)), torch.zeros(2, 8))


def test_linear_path_can_be_proportional() -> None:
    path = LinearClinicalPath(3, 8)
    with torch.no_grad():
        path.coefficients.weight[0] = torch.tensor([0.1, 0.0, -0.2])
    effect = path(torch.tensor([[1.0, 5.0, 1.0]]))
    assert torch.allclose(effect, effect[0, 0].expand(1, 8))


def test_linear_path_can_change_sign_over_time() -> None:
    path = LinearClinicalPath(1, 8)
    with torch.no_grad():
        path.coefficients.weight[1] = 0.1
    effect = path(torch.ones(1, 1))[0]
    assert effect[0] < 0 < effect[-1]


def test_linear_path_s_time_shapes_are_not_parameters() -> None:
    assert set(LinearClinicalPath(3, 8).state_dict()) == {"coefficients.weight"}
