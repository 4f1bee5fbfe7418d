import pytest

from acfnet_core.model.network import AcfNetConfig, build_model
from acfnet_core.model.parameter_counts import (
    conv_reduction,
    model_reduction,
    num_parameters,
)

SIZES = ["tiny", "small", "base"]


def _config(size: str) -> AcfNetConfig:
    return AcfNetConfig.model_validate({"num_clinical_features": 13, "size": size})


@pytest.mark.parametrize("size", SIZES)
def test_separable_convolutions_have_41_percent_fewer_parameters(size: str) -> None:
    assert 0.405 <= conv_reduction(_config(size)) <= 0.425


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_network_saves_less_than_its_convolutions(size: str) -> None:
    assert 0.1 < model_reduction(_config(size)) < conv_reduction(_config(size))


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [("tiny", 80e3, 110e3), ("small", 300e3, 500e3), ("base", 800e3, 900e3)],
)
def test_sizes_have_the_stated_numbers(size: str, least: float, most: float) -> None:
    assert least <= num_parameters(build_model(_config(size), seed=0)) <= most
