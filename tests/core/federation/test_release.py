import json
from pathlib import Path

import numpy as np
import pytest

from acfnet_core.errors import DataError
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.federation.release import (
    DESCRIPTION_FILE,
    PARAMETERS_FILE,
    load_release,
    save_release,
)

ARRAYS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


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
