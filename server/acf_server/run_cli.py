"""The commands for runs: parse, call, render; no logic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acf_server.options import HERE, AsJson, Folder, console, next_step, write_json

if TYPE_CHECKING:
    from acf_server.coordinator import Coordinator

ExportTarget = Literal["tensorboard", "mlflow"]

run_app = typer.Typer(help="Start, follow, stop and list runs.", no_args_is_help=True)


@run_app.command("start")
def run_start(
    config: Annotated[Path, typer.Argument(help="A run.toml; see docs/run-toml.md.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train one model over the sites and follow the rounds; the server must run.

    Ctrl-C stops following, not the run.

    Example:  acf-server run start run.toml --folder coordinator
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.run_config import read_run_config
    from acf_server.runs import create_run

    coordinator = open_coordinator(folder)
    run_folder = create_run(coordinator, read_run_config(config))
    _follow(coordinator, run_folder, folder, as_json=as_json)


@run_app.command("watch")
def run_watch(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Follow a run from its first event to its end; Ctrl-C stops following only.

    Example:  acf-server run watch first
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.runs import find_run

    coordinator = open_coordinator(folder)
    _follow(coordinator, find_run(coordinator, run), folder, as_json=as_json)


@run_app.command("resume")
def run_resume(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Let a run that failed or was stopped go on after its last complete round.

    A run that was merely cut off goes on by itself when the server runs.

    Example:  acf-server run resume first
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.runs import find_run, resume_run

    coordinator = open_coordinator(folder)
    run_folder = find_run(coordinator, run)
    start_at = resume_run(coordinator, run_folder)
    _follow(coordinator, run_folder, folder, as_json=as_json, start_at=start_at)


@run_app.command("stop")
def run_stop(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Stop a run; its complete rounds stay, and it can be resumed.

    Example:  acf-server run stop first
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.runs import find_run, stop_run

    coordinator = open_coordinator(folder)
    stop_run(coordinator, find_run(coordinator, run))
    if as_json:
        write_json({"run": run, "status": "stopped"})
    console.say(f"Stopped {run}.")
    next_step(f"acf-server run resume {run} --folder {folder}")


@run_app.command("show")
def run_show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show how far a run is, and who has taken part.

    Example:  acf-server run show first --json
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.run_overview import describe_run, overview_of
    from acf_server.runs import find_run

    overview = overview_of(find_run(open_coordinator(folder), run))
    if as_json:
        write_json(overview.model_dump(mode="json"))
        return
    for line in describe_run(overview):
        typer.echo(line)


@run_app.command("list")
def run_list(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the runs, with what they have done and cost so far.

    Example:  acf-server run list
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.run_overview import describe_listed, list_with_cost

    listed = list_with_cost(open_coordinator(folder))
    if as_json:
        write_json([run.model_dump(mode="json") for run in listed])
        return
    for run in listed:
        typer.echo(describe_listed(run))


@run_app.command("export")
def run_export(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    to: Annotated[ExportTarget, typer.Option("--to", help="For which program.")],
    out: Annotated[Path, typer.Option("--out", help="The folder that it reads.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a run's figures for TensorBoard or MLflow; to repeat it replaces them.

    Example:  acf-server run export first --to tensorboard --out boards
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.run_export import COMMANDS, export_run
    from acf_server.runs import find_run

    num_figures = export_run(find_run(open_coordinator(folder), run), to, out)
    if as_json:
        write_json({"run": run, "to": to, "out": str(out), "figures": num_figures})
    console.say(f"Wrote {num_figures} figures of {run} to {out}")
    next_step(COMMANDS[to].format(out=out))


def _follow(
    coordinator: "Coordinator",
    run_folder: Path,
    folder: Path,
    *,
    as_json: bool,
    start_at: int = 0,
) -> None:
    """Show a run to its end and say what to type next."""
    from acf_server.run_files import read_run
    from acf_server.run_overview import view_of
    from acf_server.runs import follow_run, require_finished

    run = run_folder.name
    try:
        last = console.follow(
            follow_run(coordinator, run_folder, start_at=start_at),
            view=view_of(run_folder, end_at=start_at),
        )
    except KeyboardInterrupt:
        console.say(f"The run {run} goes on without you; to stop it:")
        next_step(f"acf-server run stop {run} --folder {folder}")
        raise
    require_finished(last)
    if as_json:
        write_json({"run": run, "run_dir": str(run_folder)})
    console.say(f"Wrote {run_folder}")
    if read_run(run_folder).status == "stopped":
        next_step(f"acf-server run resume {run} --folder {folder}")
    else:
        next_step(
            f"acf-server evaluate {run} --clinical HELD-OUT-TABLE --folder {folder}"
        )
