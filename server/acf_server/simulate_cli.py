"""The command that simulates a run: parse, call, render; no logic."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acf_server.options import AsJson, console, next_step, write_json

if TYPE_CHECKING:
    from acf_server.run_events import RunEvent


class SplitName(StrEnum):
    """How pseudo-sites differ."""

    IID = "iid"
    LABEL = "label"
    SIZE = "size"


class EngineName(StrEnum):
    """What plays the sites."""

    IN_PROCESS = "in-process"
    RAY = "ray"


def simulate(
    config: Annotated[Path, typer.Argument(help="A run.toml; see docs/run-toml.md.")],
    out: Annotated[Path, typer.Option(help="Folder of simulations; may be new.")],
    cohort: Annotated[
        list[Path] | None,
        typer.Option(help="A site's folder with prepared data; once for each site."),
    ] = None,
    clinical: Annotated[
        Path | None,
        typer.Option(help="A table, or a .toml that describes one; to be divided."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Its DICOM files.", show_default="none")
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option(help="Of the table: a contract.toml, or a shipped one's name."),
    ] = None,
    sites: Annotated[
        int | None,
        typer.Option(min=1, help="Pseudo-sites.", show_default="as in run.toml"),
    ] = None,
    split: Annotated[
        SplitName | None, typer.Option(help="How they differ.", show_default="iid")
    ] = None,
    skew: Annotated[
        float | None,
        typer.Option(
            help="With label and size: small is unlike, 100 alike.", show_default="1"
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="What plays the sites.")
    ] = EngineName.IN_PROCESS,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Sites at a time, with ray.", show_default="1"),
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="Train the pooled and the sites' own models too.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Play a run here, over prepared cohorts or one table divided into pseudo-sites.

    Its model is judged on a fifth of the patients, kept back, beside a pooled model and
    each site's own.

    Example:  acf-server simulate run.toml --clinical table.csv --sites 4
              --split label --out simulations
    """
    from acf_server.run_config import read_run_config
    from acf_server.simulation import Simulation, Watchers, simulate
    from acf_server.simulation_options import choose_cohorts, choose_workers
    from acfnet_core.training.device import choose_device
    from acfnet_core.training.reproducibility import make_deterministic

    run = read_run_config(config)
    cohorts = choose_cohorts(
        folders=tuple(cohort or ()),
        clinical=clinical,
        images=images,
        contract=contract,
        num_sites=sites,
        split=split.value if split else None,
        skew=skew,
        sites_of_run=len(run.run.sites),
    )
    num_workers = choose_workers(workers, engine=engine.value)
    make_deterministic(num_threads=1)
    result = simulate(
        Simulation(
            config=run,
            cohorts=cohorts,
            folder=out,
            engine=engine.value,
            num_workers=num_workers,
            device=choose_device("auto"),
            compares=compare,
        ),
        Watchers(
            preparing=lambda event: console.preparing("table", event),
            running=_tell,
            comparing=lambda name: console.note(f"training for comparison: {name}"),
        ),
    )
    if as_json:
        write_json(result.model_dump(mode="json"))
    else:
        for line in result.lines():
            typer.echo(line)
    next_step(f"acf-server report {result.run} --folder {out}")


def _tell(event: "RunEvent") -> None:
    """Show an event of the run, if a person should read it."""
    from acf_server.console import describe_event

    line = describe_event(event)
    if line:
        console.note(line)
