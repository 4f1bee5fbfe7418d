import stat
from pathlib import Path

import numpy as np
import pytest

from acfnet_core.errors import DataError
from acfnet_core.training import site_state
from acfnet_core.training.site_state import STATE_FOLDER, SiteState


def _values(number: int) -> np.ndarray:
    return np.full(3, number, np.float32)


def _save(state: SiteState, *rounds: int) -> None:
    """Go on from one round to the next."""
    after = 0
    for number in rounds:
        state.save(number, _values(number), after=after)
        after = number


def _path(folder: Path, number: int) -> Path:
    return folder / STATE_FOLDER / f"round-{number:04d}.safetensors"


def test_what_was_saved_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    values = np.array([1.5, -0.0, 3e-39], np.float32)
    SiteState(tmp_path).save(4, values, after=0)
    assert SiteState(tmp_path).load(4).tobytes() == values.tobytes()


def test_the_round_gone_on_from_and_the_one_before_are_kept(tmp_path: Path) -> None:
    state = SiteState(tmp_path)
    _save(state, 1, 2, 3, 4, 5)
    assert state.rounds() == [3, 4, 5]


def test_rounds_that_were_not_taken_are_forgotten(tmp_path: Path) -> None:
    state = SiteState(tmp_path)
    _save(state, 1, 2)
    for number in (3, 4, 5):
        state.save(number, _values(number), after=2)
    assert state.rounds() == [1, 2, 5]


def test_a_run_that_went_back_forgets_what_came_later(tmp_path: Path) -> None:
    state = SiteState(tmp_path)
    _save(state, 1, 2, 3)
    state.save(2, _values(20), after=1)
    assert state.rounds() == [1, 2]
    assert state.load(2).tolist() == [20.0] * 3


def test_a_run_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    state = SiteState(tmp_path)
    _save(state, 1, 2, 3)
    state.save(1, _values(1), after=0)
    assert state.rounds() == [1]


def test_the_state_is_for_the_owner_alone(tmp_path: Path) -> None:
    _save(SiteState(tmp_path / "run"), 1)
    path = _path(tmp_path / "run", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def _assert_damaged(state: SiteState, number: int) -> None:
    with pytest.raises(DataError) as caught:
        state.load(number)
    assert caught.value.code == "data.store_damaged"
    assert f"round-{number:04d}" in caught.value.message


def test_a_state_that_is_gone_is_named(tmp_path: Path) -> None:
    _assert_damaged(SiteState(tmp_path), 3)


@pytest.mark.parametrize("place", [0, 9, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, place: int) -> None:
    state = SiteState(tmp_path)
    _save(state, 1)
    path = _path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(bytes(content))
    _assert_damaged(state, 1)


@pytest.mark.parametrize("length", [0, 5, 60])
def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path, length: int) -> None:
    state = SiteState(tmp_path)
    _save(state, 1)
    path = _path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:length])
    _assert_damaged(state, 1)


def test_a_kill_while_writing_leaves_the_states_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SiteState(tmp_path)
    _save(state, 1, 2)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(site_state, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        state.save(3, _values(3), after=2)
    assert state.rounds() == [1, 2]


def test_other_files_in_the_folder_are_let_be(tmp_path: Path) -> None:
    state = SiteState(tmp_path)
    _save(state, 1)
    copy = _path(tmp_path, 1).with_name("round-0001-old.safetensors")
    copy.write_bytes(b"")
    _save(state, 1, 2, 3, 4)
    assert copy.exists()
    assert state.rounds() == [2, 3, 4]
