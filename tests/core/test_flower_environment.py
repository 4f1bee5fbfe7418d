import os
import stat
import sys
from pathlib import Path

import pytest

from acfnet_core.errors import MachineError
from acfnet_core.flower_environment import flower_environment, flower_program


def test_what_would_reach_out_is_off(tmp_path: Path) -> None:
    environment = flower_environment(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"


def test_each_process_has_a_private_home_of_its_own(tmp_path: Path) -> None:
    homes = [
        Path(flower_environment(tmp_path / name)["FLWR_HOME"]) for name in ("a", "b")
    ]
    assert homes[0] != homes[1]
    assert all(stat.S_IMODE(home.stat().st_mode) == 0o700 for home in homes)


def test_a_home_given_by_a_relative_path_is_told_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert flower_environment(Path("home"))["FLWR_HOME"] == str(
        tmp_path.resolve() / "home"
    )


def test_the_programs_installed_here_come_first(tmp_path: Path) -> None:
    first = flower_environment(tmp_path)["PATH"].split(os.pathsep)[0]
    assert first == str(Path(sys.executable).parent)


@pytest.mark.parametrize(
    "name", ["flower-superlink", "flower-superexec", "flower-supernode", "flwr"]
)
def test_flowers_programs_are_found(name: str) -> None:
    assert os.access(flower_program(name), os.X_OK)


def test_a_program_that_is_not_installed_is_reported() -> None:
    with pytest.raises(MachineError, match="flower-supernova") as caught:
        flower_program("flower-supernova")
    assert caught.value.code == "machine.program_missing"


def test_a_home_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError) as caught:
        flower_environment(tmp_path / "file" / "home")
    assert caught.value.code == "machine.folder_unwritable"
