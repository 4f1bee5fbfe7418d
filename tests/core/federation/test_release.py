import json
from pathlib import Path

import numpy as np
import pytest

from acfnet_core.errors import DataError
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.federation.release import (
    DESCRIPTION_FILE,
    PARAMETERS_FILE,
    load_members,
    load_release,
    save_release,
)

ARRAYS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


MEMBERS = {
    number: {"weight": np.full((2, 3), number, dtype=np.float32)} for number in (7, 6)
}


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    folder = tmp_path / "ensemble"
    save_release(
        folder,
        ARRAYS,
        run="run-1",
        model={"size": "tiny"},
        contract_sha256="c" * 64,
        supported_months=72.0,
        landmark_months=-1.5,
        members=MEMBERS,
    )
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_release(
        folder, ARRAYS, run="run-1", model={"size": "tiny"}, contract_sha256="c" * 64
    )
    return folder


def _refused_code(folder: Path) -> str:
    with pytest.raises(DataError, match=str(folder)) as caught:
        load_release(folder)
    return caught.value.code


def test_a_release_comes_back_as_it_was_written(release: Path) -> None:
    arrays, description = load_release(release)
    assert sha256_of(flatten(arrays)) == sha256_of(flatten(ARRAYS))
    assert arrays["weight"].shape == (2, 3)
    assert (description.run, description.model) == ("run-1", {"size": "tiny"})
    assert description.contract_sha256 == "c" * 64


def test_an_absent_release_is_a_path_not_found(tmp_path: Path) -> None:
    assert _refused_code(tmp_path / "model") == "data.path_not_found"


def test_a_changed_parameter_is_noticed(release: Path) -> None:
    path = release / PARAMETERS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x01
    path.write_bytes(content)
    assert _refused_code(release) == "data.store_damaged"


@pytest.mark.parametrize("name", [PARAMETERS_FILE, DESCRIPTION_FILE])
def test_a_file_cut_short_is_noticed(release: Path, name: str) -> None:
    path = release / name
    path.write_bytes(path.read_bytes()[:-9])
    assert _refused_code(release) == "data.store_damaged"


def test_missing_parameters_are_noticed(release: Path) -> None:
    (release / PARAMETERS_FILE).unlink()
    assert _refused_code(release) == "data.store_damaged"


def test_an_unknown_key_in_the_description_is_refused(release: Path) -> None:
    path = release / DESCRIPTION_FILE
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "more": 1}))
    assert _refused_code(release) == "data.store_damaged"


def test_the_members_come_back_by_round(ensemble: Path) -> None:
    assert [m["weight"][0, 0] for m in load_members(ensemble)] == [6.0, 7.0]
    members = load_release(ensemble)[1].members
    assert [(m.round, m.file) for m in members] == [
        (6, "members/round-0006.safetensors"),
        (7, "members/round-0007.safetensors"),
    ]


def test_what_the_model_may_be_asked_comes_back(ensemble: Path) -> None:
    description = load_release(ensemble)[1]
    assert (description.supported_months, description.landmark_months) == (72.0, -1.5)


def test_a_release_without_members_has_none(release: Path) -> None:
    assert load_members(release) == ()
    assert not (release / "members").exists()


def test_a_release_from_before_there_were_members_is_read(release: Path) -> None:
    path = release / DESCRIPTION_FILE
    content = json.loads(path.read_bytes())
    for name in ("supported_months", "landmark_months", "members"):
        del content[name]
    path.write_text(json.dumps(content))
    description = load_release(release)[1]
    assert description.members == ()
    assert description.supported_months is None


def test_a_changed_member_is_noticed(ensemble: Path) -> None:
    path = ensemble / "members" / "round-0006.safetensors"
    path.write_bytes((ensemble / "members" / "round-0007.safetensors").read_bytes())
    with pytest.raises(DataError, match="round-0006") as caught:
        load_members(ensemble)
    assert caught.value.code == "data.store_damaged"


def test_a_member_outside_the_folder_is_refused(ensemble: Path) -> None:
    path = ensemble / DESCRIPTION_FILE
    content = json.loads(path.read_bytes())
    content["members"][0]["file"] = "../model/parameters.safetensors"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        load_members(ensemble)
    assert caught.value.code == "data.store_damaged"
