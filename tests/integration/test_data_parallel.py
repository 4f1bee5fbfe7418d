"""Two processes on the CPU that train one model together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from references.scan_cohorts import make_scan_cohort
from references.site_rounds import small_model
from torch import Tensor

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError, MachineError
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.data_parallel import train_in_parallel
from acfnet_core.training.early_stopping import divide_cohort
from acfnet_core.training.local_training import (
    PassValidated,
    StepFinished,
    TrainingEvent,
    train_locally,
)
from acfnet_core.training.settings import LocalTrainingSettings

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
TWO_RANKS = ComputeOptions(devices=(torch.device("cpu"), torch.device("cpu")))
ENDLESS = """
from itertools import islice
import test_data_parallel as ours
from acfnet_core.training.settings import LocalTrainingSettings
events = ours.train_in_parallel(
    ours.without_dropout(),
    compute=ours.TWO_RANKS,
    **ours.work(
        ours.make_scan_cohort(9, seed=2),
        settings=LocalTrainingSettings(local_steps=100_000, batch_size=4),
    ),
)
list(islice(events, 2))
print(*ours.rank_pids(), flush=True)
list(events)
"""
EPOCHS = LocalTrainingSettings(local_epochs=2, batch_size=4)


def without_dropout() -> AcfNet:
    return small_model(dropout=0.0, token_dropout=0.0)


def flat(model: AcfNet) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def work(cohort: PreparedCohort, **changes: Any) -> dict[str, Any]:
    content = {"settings": EPOCHS, "loss": LossConfig(), "seed": 4}
    return {"cohort": cohort, **content, **changes}


def status_of(path: Path) -> tuple[str, int]:
    """The state of a process, of which Z is one that has ended, and its parent."""
    words = (path / "stat").read_text().rpartition(")")[2].split()
    return words[0], int(words[1])


def has_ended(path: Path) -> bool:
    try:
        return status_of(path)[0] == "Z"
    except OSError:
        return True


def losses(events: Iterator[TrainingEvent]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepFinished)]


def rank_pids() -> list[int]:
    """The ranks, which multiprocessing starts with these words in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
            _, parent = status_of(path)
        except OSError:
            continue
        if b"spawn_main" in command and parent == os.getpid():
            found.append(int(path.name))
    return sorted(found)


def test_two_ranks_end_where_one_process_does() -> None:
    # 9 patients by 4: shares of 2 and 2, and a last batch of which one rank has
    # nothing. Every third patient has no scan, so some shares give no image gradient.
    cohort = make_scan_cohort(9, seed=2)
    alone, together = without_dropout(), without_dropout()
    expected = losses(train_locally(alone, **work(cohort)))
    found = losses(train_in_parallel(together, compute=TWO_RANKS, **work(cohort)))
    assert found == pytest.approx(expected, rel=1e-4)
    assert (flat(alone) - flat(together)).abs().max() < 1e-4
    assert (flat(alone) - flat(without_dropout())).abs().max() > 1e-3
    assert rank_pids() == []


def test_two_ranks_stop_together_at_the_best_pass() -> None:
    cohort = make_scan_cohort(40, seed=2)
    settings = LocalTrainingSettings(
        local_steps=3, batch_size=16, validation_share=0.3, patience=1
    )
    parts = divide_cohort(cohort, validation_share=0.3, seed=1)
    events = train_in_parallel(
        without_dropout(),
        compute=TWO_RANKS,
        validation=parts.validation,
        **work(parts.training, settings=settings),
    )
    judged = [e.pass_number for e in events if isinstance(e, PassValidated)]
    assert judged[:2] == [0, 1]


def test_a_killed_rank_ends_the_training_with_its_code() -> None:
    many = LocalTrainingSettings(local_steps=100_000, batch_size=4)
    cohort = make_scan_cohort(9, seed=2)
    events = train_in_parallel(
        without_dropout(), compute=TWO_RANKS, **work(cohort, settings=many)
    )
    list(islice(events, 2))
    os.kill(rank_pids()[-1], signal.SIGKILL)
    with pytest.raises(MachineError, match="ended before its work was done") as caught:
        list(events)
    assert caught.value.code == "machine.process_died"
    assert rank_pids() == []


def test_an_error_of_a_rank_keeps_its_code() -> None:
    nobody = replace(make_scan_cohort(9, seed=2), patients=())
    with pytest.raises(DataError) as caught:
        list(train_in_parallel(without_dropout(), compute=TWO_RANKS, **work(nobody)))
    assert caught.value.code == "data.nothing_usable"


def test_the_ranks_of_a_killed_process_end_by_themselves(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("wb") as errors:
        trainer = subprocess.Popen(
            [sys.executable, "-c", ENDLESS],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert trainer.stdout is not None
    ranks = [
        Path("/proc") / word for word in trainer.stdout.readline().decode().split()
    ]
    assert [status_of(rank)[1] for rank in ranks] == [trainer.pid] * 2
    trainer.kill()
    trainer.communicate()
    deadline = monotonic() + 20
    while not all(map(has_ended, ranks)) and monotonic() < deadline:
        sleep(0.05)
    assert all(map(has_ended, ranks))


def test_training_that_is_given_up_leaves_no_process() -> None:
    many = LocalTrainingSettings(local_steps=100_000, batch_size=4)
    cohort = make_scan_cohort(9, seed=2)
    events = train_in_parallel(
        without_dropout(), compute=TWO_RANKS, **work(cohort, settings=many)
    )
    list(islice(events, 2))
    assert len(rank_pids()) == 2
    events.close()
    assert rank_pids() == []
