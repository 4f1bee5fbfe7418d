import pytest
import torch

from acfnet_core.errors import ConfigError
from acfnet_core.training.device import choose_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_an_accelerator_the_cpu_computes(name: str) -> None:
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_gpu_that_is_there_is_taken(name: str, expected: str) -> None:
    assert choose_device(name) == torch.device(expected)


@pytest.mark.usefixtures("no_accelerator")
def test_auto_takes_mps_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:-1", "mps"])
def test_a_device_that_is_not_there_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"compute.device is '{name}'") as caught:
        choose_device(name)
    assert caught.value.code == "config.invalid"


@pytest.mark.usefixtures("no_accelerator")
def test_the_setting_that_asks_for_a_device_is_named() -> None:
    with pytest.raises(ConfigError, match=r"compute\.devices is 'cuda:1'"):
        choose_device("cuda:1", setting="compute.devices")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    "name", ["cuda:2", "cuda:-1", "cuda:x", "cuda:", "cuda:1:1", "cpu:1", "gpu", ""]
)
def test_a_name_that_is_no_device_of_this_machine_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="which this machine does not have"):
        choose_device(name)
