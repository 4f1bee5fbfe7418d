"""The commands of a site: parse, call, render; no logic.

Heavy imports stand inside the commands, so that --help is instant.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from acf_client.console import Console
from acf_client.data_cli import data_app
from acf_client.options import HERE, AsJson, Folder
from acfnet_core.edge import run_program

app = typer.Typer(
    help="A hospital's part in a federation: enrol, check and prepare data, take part.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Typer escapes for rich what only rich's markup takes back: `\[required]`.
typer.core.HAS_RICH = False
app.add_typer(data_app, name="data")

console = Console()

STDIN = "-"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    clinical: Annotated[Path, typer.Option(help="The clinical table: CSV or xlsx.")],
    images: Annotated[
        Path | None, typer.Option(help="The DICOM files.", show_default="none")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads.", show_default="all cores"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set up the site's folder: settings, and a secret key for pseudonyms.

    Example:  acf-client init site --clinical /data/crlm.xlsx --images /data/dicom
    """
    from acf_client.site import initialise

    site = initialise(
        folder,
        clinical_table=clinical,
        images=images,
        column_names={},
        device=device,
        num_threads=threads,
    )
    if as_json:
        console.write_json({"folder": str(site.folder)})
    console.say(f"Wrote {site.folder / 'site.toml'}; look through it.")
    console.next_step(f"acf-client enroll LINE --folder {folder}")


@app.command()
def enroll(
    line: Annotated[
        str | None,
        typer.Argument(help="The coordinator's line; - reads it from stdin."),
    ] = None,
    admission: Annotated[
        Path | None, typer.Option(help="The file that the coordinator sent back.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Join a consortium in two steps: answer its invitation, then take its admission.

    Example:  acf-client enroll acf1:eyJjb25...
              acf-client enroll --admission hospital-a-admission.json
    """
    from acf_client.enrolment import finish_enrolment, start_enrolment
    from acf_client.site import open_site

    if (line is None) == (admission is None):
        raise typer.BadParameter("give the coordinator's LINE, or --admission FILE")
    site = open_site(folder)
    if admission is not None:
        state = finish_enrolment(site, admission)
        if as_json:
            console.write_json({"site": state.site, "consortium": state.consortium})
        console.say(f"This is now {state.site} of {state.consortium}.")
        console.next_step(f"acf-client data check --folder {folder}")
        return
    typed = sys.stdin.readline().strip() if line == STDIN else line or ""
    request, fingerprint = start_enrolment(site, typed)
    if as_json:
        console.write_json({"request": str(request), "fingerprint": fingerprint})
    console.say(f"Wrote {request}: send it to the coordinator. It holds no secret.")
    console.say(f"Fingerprint to read out over the telephone: {fingerprint}")
    console.next_step(
        f"acf-client enroll --admission FILE --folder {folder}, with the file that "
        "comes back"
    )


@app.command()
def predict(
    patient: Annotated[str, typer.Argument(help="The site's own identifier.")],
    model: Annotated[
        list[Path],
        typer.Option(help="A run's `model` folder; more of them widen the range."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write.", show_default="in the site's folder"),
    ] = None,
    dicom: Annotated[
        bool, typer.Option("--dicom/--no-dicom", help="Write the maps as DICOM.")
    ] = True,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask trained models about one patient: a projected curve, and risk maps.

    Research only, not a medical device.

    Example:  acf-client predict 0815 --model runs/first/model --folder site
    """
    from acf_client.prediction import predict_at_site
    from acf_client.site import open_site

    written = predict_at_site(
        open_site(folder), patient, model_folders=model, out=out, with_dicom=dicom
    )
    if as_json:
        console.write_json(
            {
                "folder": str(written.folder),
                "files": [str(file) for file in written.files],
                "identifying": list(written.identifying),
                "prediction": written.record.model_dump(mode="json"),
            }
        )
    console.show_prediction(written)
    console.next_step(
        f"look at {written.folder / 'curve.png'}; docs/predict.md says how to read it"
    )


@app.command()
def start(folder: Folder = HERE) -> None:
    """Take part: hold the connection and train when a round asks, until Ctrl-C.

    Example:  acf-client start
    """
    from acf_client.site import open_site
    from acf_client.supernode import running_site
    from acfnet_core.processes import READY

    site = open_site(folder)
    with running_site(site, tell=console.say) as supervisor:
        console.say(
            f"{READY} Connected to the coordinator; waiting for rounds. Logs in "
            f"{site.logs_folder}. Ctrl-C leaves."
        )
        supervisor.watch()


def main() -> None:
    """Run the command line."""
    run_program(app, console)
