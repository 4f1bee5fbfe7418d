import builtins
from pathlib import Path
from typing import Any, Literal

import pytest
from references.run_folder import make_rounds, make_run, write_run_folder

from acf_server.run_export import (
    MLFLOW_FILE,
    _batches,
    export_run,
    figures_of,
    settings_of,
)
from acf_server.run_files import RoundPhases
from acfnet_core.errors import MachineError
from acfnet_core.files import make_folder

PHASES = RoundPhases(waiting=7.0, checking=1.0, combining=0.5, writing=1.5)


def test_every_round_gives_its_figures_and_their_n() -> None:
    found = {(f.name, f.round): f.value for f in figures_of(make_rounds(2))}
    assert found["c/patients", 2] == 95
    assert {number for name, number in found if name == "c/mean"} == {0, 1, 2}
    assert ("site/north/loss", 1) in found


def test_what_is_withheld_is_left_out() -> None:
    names = {figure.name for figure in figures_of(make_rounds(2))}
    assert "loss/patients" not in names
    assert "site/hillside/patients" not in names


def test_the_cost_is_told_by_phase() -> None:
    record = make_rounds(1)[1].model_copy(update={"phases": PHASES})
    found = {figure.name: figure.value for figure in figures_of([record])}
    assert found["cost/waiting_seconds"] == 7.0
    assert found["cost/bytes_sent"] == 1_242_000


def test_a_site_without_an_answer_has_no_seconds() -> None:
    record = make_rounds(1)[1]
    rows = [
        row.model_copy(update={"asked": True, "code": code})
        for row, code in zip(record.sites, (None, "data.no_events", None), strict=True)
    ]
    figures = figures_of([record.model_copy(update={"sites": rows})])
    told = {figure.name for figure in figures if figure.name.endswith("/seconds")}
    assert told == {"site/north/seconds", "site/hillside/seconds"}


@pytest.mark.parametrize("number", [0, 1, 100, 101])
def test_mlflow_is_given_no_more_at_once_than_it_takes(number: int) -> None:
    batches = list(_batches(list(range(number)), 100))
    assert [item for batch in batches for item in batch] == list(range(number))
    assert all(len(batch) <= 100 for batch in batches)


def test_settings_are_told_by_their_place_in_the_run() -> None:
    settings = settings_of(make_run())
    assert settings["training.learning_rate"] == "0.001"
    assert settings["strategy.name"] == "fedavg"
    assert settings["seed"] == "7"


@pytest.mark.parametrize("target", ["tensorboard", "mlflow"])
def test_a_program_that_is_missing_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: Literal["tensorboard", "mlflow"],
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith(("mlflow", "torch.utils.tensorboard")):
            raise ModuleNotFoundError("No module", name=target)
        return real(name, *rest, **named)

    write_run_folder(tmp_path)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MachineError, match="is not installed") as caught:
        export_run(tmp_path, target, tmp_path / "out")
    assert caught.value.code == "machine.program_missing"
    assert f"acfnet[{target}]" in caught.value.remedy


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written_last(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    run_folder = make_folder(tmp_path / "run")
    write_run_folder(run_folder)
    out = tmp_path / "out"
    numbers = {export_run(run_folder, "tensorboard", out) for _ in range(2)}
    folder = out / make_run().name
    assert len(list(folder.iterdir())) == 1
    read = reader.EventAccumulator(str(folder)).Reload()
    tags = read.Tags()["scalars"]
    assert sum(len(read.Scalars(tag)) for tag in tags) in numbers
    assert [event.step for event in read.Scalars("c/mean")] == list(range(7))


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_what_was_written_last(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    run_folder = make_folder(tmp_path / "run")
    write_run_folder(run_folder)
    out = tmp_path / "out"
    for _ in range(2):
        export_run(run_folder, "mlflow", out)
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{out}/{MLFLOW_FILE}")
    experiment = client.get_experiment_by_name(make_run().study)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["strategy.name"] == "fedavg"
    history = client.get_metric_history(run.info.run_id, "c/mean")
    assert [metric.step for metric in history] == list(range(7))
