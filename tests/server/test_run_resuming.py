"""A run that is cut off anywhere ends with the bits of one that is not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from references.federated_run import SITES, InProcessSites, make_run, make_sites

import acf_server.round_loop as loop_module
from acf_server.answers import RawAnswer
from acf_server.round_loop import UPDATES_FOLDER
from acf_server.run_files import RoundRecord, read_rounds, read_sites
from acfnet_core.errors import MachineError
from acfnet_core.federation import checkpoint
from acfnet_core.federation.checkpoint import (
    completed_rounds,
    load_checkpoint,
    round_folder,
)
from acfnet_core.federation.parameters import flatten
from acfnet_core.federation.release import RELEASE_FOLDER, load_release
from acfnet_core.files import write_atomically
from acfnet_core.tensor_files import write_tensors

ROUNDS = 3
NUM_ANSWERS = len(SITES) * (ROUNDS + 1)


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@dataclass
class Countdown:
    """Raises at its n-th call."""

    left: int
    error: BaseException

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture(scope="module")
def sites() -> InProcessSites:
    return make_sites()


@pytest.fixture(scope="module")
def calm(sites: InProcessSites, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbs."""
    return make_run(tmp_path_factory.mktemp("calm"), sites, rounds=ROUNDS).play().folder


def parameters_after(folder: Path, number: int) -> bytes:
    return flatten(load_checkpoint(folder, number)[0]).tobytes()


def without_times(record: RoundRecord) -> RoundRecord:
    sites = [row.model_copy(update={"computing_seconds": None}) for row in record.sites]
    times = {"seconds": 0.0, "phases": None, "sites": sites}
    return record.model_copy(update=times)


def assert_same_end(calm: Path, folder: Path) -> None:
    """Compare everything that a run leaves, but for times."""
    assert completed_rounds(folder) == completed_rounds(calm)
    for number in range(ROUNDS + 1):
        assert parameters_after(folder, number) == parameters_after(calm, number)
    left, right = (
        [without_times(record) for record in read_rounds(one)] for one in (calm, folder)
    )
    assert left == right
    assert read_sites(folder) == read_sites(calm)
    assert (
        load_release(folder / RELEASE_FOLDER)[1]
        == load_release(calm / RELEASE_FOLDER)[1]
    )
    assert not (folder / UPDATES_FOLDER).exists()


def with_calls(sites: InProcessSites, call: Callable[[], None]) -> InProcessSites:
    def tamper(raw: RawAnswer) -> RawAnswer:
        call()
        return raw

    return replace(sites, tamper=dict.fromkeys(SITES, tamper))


@pytest.mark.parametrize("number", range(1, NUM_ANSWERS + 1))
def test_a_kill_at_any_answer_costs_no_bit(
    sites: InProcessSites, calm: Path, tmp_path: Path, number: int
) -> None:
    killing = with_calls(sites, Countdown(number, KilledError()))
    run = make_run(tmp_path, killing, rounds=ROUNDS)
    with pytest.raises(KilledError):
        run.play()
    done = completed_rounds(tmp_path)
    run.sites = sites
    run.play()
    assert set(done) <= set(completed_rounds(tmp_path))
    assert_same_end(calm, tmp_path)


@pytest.mark.parametrize("number", range(1, 2 * ROUNDS + 1))
def test_a_kill_at_any_file_of_a_checkpoint_costs_no_bit(
    sites: InProcessSites,
    calm: Path,
    tmp_path: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tmp_path, sites, rounds=ROUNDS)
    countdown = Countdown(number, KilledError())

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(path: Path, content: object) -> None:
            countdown()
            write(path, content)

        return write_or_die

    with monkeypatch.context() as patch:
        for write in (write_tensors, write_atomically):
            patch.setattr(checkpoint, write.__name__, dying(write))
        with pytest.raises(KilledError):
            run.play()
    run.play()
    assert_same_end(calm, tmp_path)


def test_a_resumed_run_says_after_which_round(
    sites: InProcessSites, tmp_path: Path
) -> None:
    run = make_run(tmp_path, with_calls(sites, Countdown(4, KilledError())), rounds=2)
    with pytest.raises(KilledError):
        run.play()
    run.events.clear()
    run.sites = sites
    run.play()
    first = run.events[0]
    assert first.kind == "run_resumed"
    assert (first.round, first.num_rounds) == (1, 2)


def test_a_damaged_last_round_is_done_again(
    sites: InProcessSites, calm: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path, sites, rounds=ROUNDS)
    run.play()
    (round_folder(tmp_path, ROUNDS) / "parameters.safetensors").write_bytes(b"torn")
    run.play()
    assert_same_end(calm, tmp_path)


def test_a_run_that_had_ended_ends_the_same_again(
    sites: InProcessSites, calm: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path, sites, rounds=ROUNDS)
    run.play()
    run.play()
    assert_same_end(calm, tmp_path)


def test_a_full_disk_costs_the_running_round_alone(
    sites: InProcessSites,
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tmp_path, sites, rounds=ROUNDS)
    save = checkpoint.save_checkpoint
    error = MachineError("machine.disk_full", "Full.", remedy="Free space.")
    countdown = Countdown(2, error)

    def save_or_fail(*args: object, **options: object) -> object:
        countdown()
        return save(*args, **options)  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "save_checkpoint", save_or_fail)
        with pytest.raises(MachineError):
            run.play()
    assert completed_rounds(tmp_path) == [0, 1]
    run.play()
    assert_same_end(calm, tmp_path)
