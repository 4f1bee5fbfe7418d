from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acfnet_core.errors import DataError, MachineError
from acfnet_core.federation import checkpoint
from acfnet_core.federation.checkpoint import (
    MANIFEST_FILE,
    PARAMETERS_FILE,
    STATE_FILE,
    ModelsOfRounds,
    completed_rounds,
    latest_checkpoint,
    load_checkpoint,
    read_checkpoint,
    round_folder,
    save_checkpoint,
)
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.files import write_atomically
from acfnet_core.tensor_files import write_tensors


def _arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "b.bias": rng.normal(size=5).astype(np.float32),
    }


def _save(run_folder: Path, round_number: int) -> None:
    save_checkpoint(
        run_folder,
        _arrays(round_number),
        run="run-1",
        round_number=round_number,
        contributors={"hospital-a": 40},
    )


def _assert_damaged(run_folder: Path, round_number: int) -> None:
    with pytest.raises(DataError, match="absent or damaged") as caught:
        load_checkpoint(run_folder, round_number)
    assert caught.value.code == "data.store_damaged"
    assert str(round_folder(run_folder, round_number)) in caught.value.message


def test_a_checkpoint_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    arrays, _ = load_checkpoint(tmp_path, 3)
    assert sha256_of(flatten(arrays)) == sha256_of(flatten(_arrays(3)))


def test_the_manifest_says_whose_data_went_in(tmp_path: Path) -> None:
    _save(tmp_path, 3)
    _, manifest = load_checkpoint(tmp_path, 3)
    assert (manifest.run, manifest.round) == ("run-1", 3)
    assert manifest.contributors == {"hospital-a": 40}


@pytest.mark.parametrize("position", [8, 100, -1])
def test_a_flipped_byte_is_noticed(tmp_path: Path, position: int) -> None:
    _save(tmp_path, 1)
    path = round_folder(tmp_path, 1) / PARAMETERS_FILE
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)
    _assert_damaged(tmp_path, 1)


@pytest.mark.parametrize("name", [PARAMETERS_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_file_cut_short_is_noticed(tmp_path: Path, name: str, share: float) -> None:
    _save(tmp_path, 1)
    path = round_folder(tmp_path, 1) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _assert_damaged(tmp_path, 1)


@pytest.mark.parametrize("name", [PARAMETERS_FILE, MANIFEST_FILE])
def test_a_missing_file_is_noticed(tmp_path: Path, name: str) -> None:
    _save(tmp_path, 1)
    (round_folder(tmp_path, 1) / name).unlink()
    _assert_damaged(tmp_path, 1)


def test_a_checkpoint_that_never_was_is_reported(tmp_path: Path) -> None:
    _assert_damaged(tmp_path, 1)


def test_the_parameters_of_another_round_are_noticed(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    other = round_folder(tmp_path, 2) / PARAMETERS_FILE
    (round_folder(tmp_path, 1) / PARAMETERS_FILE).write_bytes(other.read_bytes())
    _assert_damaged(tmp_path, 1)


def test_completed_rounds_are_in_order(tmp_path: Path) -> None:
    for round_number in (10, 0, 2):
        _save(tmp_path, round_number)
    assert completed_rounds(tmp_path) == [0, 2, 10]


def test_a_run_without_checkpoints_has_completed_no_round(tmp_path: Path) -> None:
    assert completed_rounds(tmp_path) == []


def test_a_folder_without_manifest_is_no_completed_round(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    (round_folder(tmp_path, 2) / MANIFEST_FILE).unlink()
    assert completed_rounds(tmp_path) == [1]


def test_a_copy_made_by_a_person_is_no_completed_round(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    folder = round_folder(tmp_path, 1)
    copy = folder.with_name(f"{folder.name}-old")
    copy.mkdir()
    (copy / MANIFEST_FILE).write_bytes((folder / MANIFEST_FILE).read_bytes())
    assert completed_rounds(tmp_path) == [1]


def test_a_kill_between_the_two_files_leaves_the_earlier_round_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 1)

    def killed_before_the_manifest(path: Path, content: bytes) -> None:
        if path.name == MANIFEST_FILE:
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", killed_before_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        _save(tmp_path, 2)
    assert (round_folder(tmp_path, 2) / PARAMETERS_FILE).is_file()
    assert completed_rounds(tmp_path) == [1]
    _assert_damaged(tmp_path, 2)


@pytest.mark.parametrize("first", [0, 1])
def test_a_kill_while_a_round_is_written_again_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    for number in range(3):
        _save(tmp_path, number)
    written: list[str] = []

    def killed_after(write: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(path: Path, content: object) -> None:
            if len(written) > first:
                raise KeyboardInterrupt
            write(path, content)
            written.append(path.name)

        return write_or_die

    monkeypatch.setattr(checkpoint, "write_tensors", killed_after(write_tensors))
    monkeypatch.setattr(checkpoint, "write_atomically", killed_after(write_atomically))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(
            tmp_path,
            _arrays(9),
            run="run-1",
            round_number=2,
            contributors={},
            state={"momentum": np.ones(3, np.float32)},
        )
    assert latest_checkpoint(tmp_path).manifest.round == 1


def test_what_a_killed_write_has_left_is_gone_with_the_next(tmp_path: Path) -> None:
    folder = round_folder(tmp_path, 1)
    folder.mkdir(parents=True)
    for name in (f".{PARAMETERS_FILE}.0a1b2c.tmp", ".tmpQ3bZxK"):
        (folder / name).write_bytes(b"half")
    _save(tmp_path, 1)
    names = {path.name for path in folder.iterdir()}
    assert names == {PARAMETERS_FILE, MANIFEST_FILE}


def test_what_the_strategy_remembers_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    state = {"momentum": np.array([0.1, -0.0, np.pi], np.float32)}
    save_checkpoint(
        tmp_path,
        _arrays(1),
        run="run-1",
        round_number=1,
        contributors={},
        state=state,
    )
    found = read_checkpoint(tmp_path, 1).state
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in state.items()
    }


def test_a_damaged_state_is_noticed(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path,
        _arrays(1),
        run="run-1",
        round_number=1,
        contributors={},
        state={"momentum": np.ones(3, np.float32)},
    )
    path = round_folder(tmp_path, 1) / STATE_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _assert_damaged(tmp_path, 1)


def test_the_latest_round_is_the_last_intact_one(tmp_path: Path) -> None:
    for number in range(4):
        _save(tmp_path, number)
    for number in (2, 3):
        (round_folder(tmp_path, number) / PARAMETERS_FILE).write_bytes(b"torn")
    found = latest_checkpoint(tmp_path)
    assert found.manifest.round == 1
    assert sha256_of(flatten(found.arrays)) == sha256_of(flatten(_arrays(1)))


def test_a_run_of_which_nothing_is_intact_is_reported(tmp_path: Path) -> None:
    _save(tmp_path, 0)
    (round_folder(tmp_path, 0) / PARAMETERS_FILE).unlink()
    with pytest.raises(DataError, match="absent or damaged"):
        latest_checkpoint(tmp_path)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError) as caught:
        _save(tmp_path / "file", 1)
    assert caught.value.code == "machine.folder_unwritable"


def test_the_models_of_several_rounds_are_read_when_they_are_asked_for(
    tmp_path: Path,
) -> None:
    models = ModelsOfRounds(tmp_path, range(2, 4))
    assert (list(models), len(models)) == ([2, 3], 2)
    with pytest.raises(DataError, match="absent or damaged"):
        models[2]
    _save(tmp_path, 2)
    assert np.array_equal(flatten(models[2]), flatten(load_checkpoint(tmp_path, 2)[0]))
    with pytest.raises(KeyError):
        models[1]
