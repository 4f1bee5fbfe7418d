"""A run's figures for programs that draw them: TensorBoard and MLflow.

Both are optional, and neither is given anything that rounds.json does not tell.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from acf_server.run_files import RoundRecord, RunRecord, read_rounds, read_run
from acfnet_core.errors import MachineError
from acfnet_core.files import make_folder

MLFLOW_FILE = "mlflow.db"
COMMANDS = {
    "tensorboard": "tensorboard --logdir {out}",
    "mlflow": f"mlflow ui --backend-store-uri sqlite:///{{out}}/{MLFLOW_FILE}",
}
"""Target to what shows the exported figures."""
SUFFIX = ".acfnet"
"""Ends the names of our files: to export again replaces these alone."""
RUN_TAG = "acfnet.run"
MLFLOW_PARAMS = 100
MLFLOW_METRICS = 1000
"""How many MLflow takes at once."""
Item = TypeVar("Item")

_OF_ROUND = {
    "loss/mean": "mean_loss",
    "loss/worst_site": "worst_loss",
    "loss/patients": "num_patients",
    "c/mean": "mean_c",
    "c/worst_site": "worst_c",
    "c/patients": "num_patients_c",
    "update_norm": "update_norm",
}
_OF_COST = {
    "cost/seconds": "seconds",
    "cost/bytes_sent": "bytes_sent",
    "cost/bytes_received": "bytes_received",
}
_OF_SITE = {"loss": "loss", "c": "harrell_c", "patients": "num_patients"}
_OF_ANSWER = {"seconds": "seconds", "computing_seconds": "computing_seconds"}


@dataclass(frozen=True)
class Figure:
    """One number of one round."""

    name: str
    round: int
    value: float


def export_run(
    run_folder: Path, target: Literal["tensorboard", "mlflow"], out: Path
) -> int:
    """Write a run's figures; to do so again replaces them.

    Returns:
        How many figures were written.

    Raises:
        ConfigError: The folder holds no run.
        MachineError: A file of it is damaged, `out` cannot be written, or the program
            is not installed (`machine.program_missing`).
    """
    run = read_run(run_folder)
    figures = list(figures_of(read_rounds(run_folder)))
    writer = {"tensorboard": _write_tensorboard, "mlflow": _write_mlflow}[target]
    try:
        writer(run, figures, make_folder(out))
    except ImportError as error:
        raise MachineError(
            "machine.program_missing",
            f"{target} is not installed beside acfnet ({error.name} is missing).",
            remedy=f"pip install 'acfnet[{target}]', or in a checkout "
            f"pip install '.[{target}]'",
        ) from error
    return len(figures)


def figures_of(rounds: list[RoundRecord]) -> Iterator[Figure]:
    """Yield all figures that the rounds tell; what is withheld is left out."""
    for record in rounds:
        yield from _take(record, _OF_ROUND, record.round)
        if record.phases is not None:
            yield from _take(record, _OF_COST, record.round)
            phases = {
                f"cost/{name}_seconds": name for name in record.phases.model_dump()
            }
            yield from _take(record.phases, phases, record.round)
        for row in record.sites:
            names = {f"site/{row.name}/{name}": key for name, key in _OF_SITE.items()}
            if row.asked and row.code is None:
                names |= {f"site/{row.name}/{n}": key for n, key in _OF_ANSWER.items()}
            yield from _take(row, names, record.round)


def settings_of(run: RunRecord) -> dict[str, str]:
    """Return what the run was asked to do: `training.learning_rate` to its value."""
    settings = {}
    for name, value in run.model_dump(mode="json").items():
        inner = value if isinstance(value, dict) else {None: value}
        for key, part in inner.items():
            text = part if isinstance(part, str) else json.dumps(part)
            settings[name if key is None else f"{name}.{key}"] = text
    return settings


def _take(source: object, names: dict[str, str], number: int) -> Iterator[Figure]:
    for name, attribute in names.items():
        value = getattr(source, attribute)
        if value is not None:
            yield Figure(name, number, float(value))


def _batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _write_tensorboard(run: RunRecord, figures: list[Figure], out: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    folder = make_folder(out / run.name)
    earlier = list(folder.glob(f"events.out.tfevents.*{SUFFIX}"))
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for figure in figures:
            writer.add_scalar(figure.name, figure.value, figure.round)
        rows = (f"| {name} | {value} |" for name, value in settings_of(run).items())
        table = "\n".join(("| setting | value |", "|---|---|", *rows))
        writer.add_text("settings", table)
    for path in earlier:
        path.unlink()


def _write_mlflow(run: RunRecord, figures: list[Figure], out: Path) -> None:
    # It would otherwise tell its makers of its use.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out.resolve() / MLFLOW_FILE}")
    experiment = client.get_experiment_by_name(run.study)
    number = (
        client.create_experiment(run.study)
        if experiment is None
        else experiment.experiment_id
    )
    earlier = client.search_runs([number], f"tags.`{RUN_TAG}` = '{run.name}'")
    made = client.create_run(number, run_name=run.name, tags={RUN_TAG: run.name})
    begun = int(1000 * run.started_utc.timestamp())
    settings = [Param(name, value[:500]) for name, value in settings_of(run).items()]
    for params in _batches(settings, MLFLOW_PARAMS):
        client.log_batch(made.info.run_id, params=params)
    metrics = [Metric(f.name, f.value, begun, f.round) for f in figures]
    for batch in _batches(metrics, MLFLOW_METRICS):
        client.log_batch(made.info.run_id, metrics=batch)
    client.set_terminated(made.info.run_id)
    for old in earlier:
        client.delete_run(old.info.run_id)
