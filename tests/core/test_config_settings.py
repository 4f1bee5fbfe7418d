from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from acfnet_core.config import check_settings, read_settings
from acfnet_core.errors import ConfigError


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    port: int
    name: str


def test_settings_are_read_into_their_model(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text('port = 1\nname = "a"\n')
    assert read_settings(path, Example) == Example(port=1, name="a")


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings({"port": "x", "colour": 1}, Example, where="example.toml")
    assert caught.value.message.splitlines() == [
        "example.toml: port: Input should be a valid integer (got 'x')",
        "example.toml: name: Field required",
        "example.toml: colour: Extra inputs are not permitted (got 1)",
    ]


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings({"port": "x" * 999, "name": "a"}, Example, where="f")
    assert len(caught.value.message) < 150


def test_a_missing_file_has_its_own_code(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        read_settings(tmp_path / "none.toml", Example)
    assert caught.value.code == "config.not_found"


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        read_settings(tmp_path, Example)
    assert caught.value.code == "config.not_found"


def test_broken_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text("port = \n")
    with pytest.raises(ConfigError, match="line 1") as caught:
        read_settings(path, Example)
    assert caught.value.code == "config.invalid"
