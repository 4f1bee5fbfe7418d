import tomllib
from pathlib import Path

import pytest

from acfnet_core.federation import bundle
from acfnet_core.federation.bundle import bundle_folder


def test_the_bundle_holds_one_file_and_no_code() -> None:
    files = [path.name for path in bundle_folder().rglob("*") if path.is_file()]
    assert files == ["pyproject.toml"]


def test_the_bundle_names_the_installed_apps() -> None:
    content = tomllib.loads((bundle_folder() / "pyproject.toml").read_text())
    components = content["tool"]["flwr"]["app"]["components"]
    assert components["clientapp"].startswith("acf_client.")
    assert components["serverapp"].startswith("acf_server.")


def test_the_packaged_bundle_goes_before_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(bundle, "_PACKAGED", tmp_path)
    assert bundle_folder() == tmp_path


def test_an_incomplete_installation_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_PACKAGED", tmp_path / "a")
    monkeypatch.setattr(bundle, "_IN_THE_REPOSITORY", tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="is not installed"):
        bundle_folder()
