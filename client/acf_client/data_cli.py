"""The `data` commands of a site: parse, call, render; no logic.

Heavy imports stand inside the commands, so that --help is instant.
"""

from pathlib import Path
from typing import Annotated

import typer

from acf_client.data_console import DataConsole
from acf_client.options import HERE, AsJson, Folder

data_app = typer.Typer(
    help="Look at, check and prepare the data.", no_args_is_help=True
)

console = DataConsole()


@data_app.command("inspect")
def data_inspect(
    folder: Annotated[Path, typer.Argument(help="Any folder; no set-up is needed.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Show what every repair would give.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the CT series, segmentations and tables of any folder; write nothing.

    Example:  acf-client data inspect /data/export
    """
    from acfnet_core.cohort.quick_look.inspection import inspect_folder

    inspection = inspect_folder(folder, is_repaired=repair)
    if as_json:
        console.write_json(inspection.as_json())
    console.show_inspection(inspection)
    console.next_step(f"acf-client init SITE --clinical TABLE --images {folder}")


@data_app.command("check")
def data_check(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Look at the table and the DICOM headers, and list what would be refused and why.

    Example:  acf-client data check
    """
    from acf_client.data import data_sources, read_contract
    from acf_client.site import open_site
    from acfnet_core.cohort.check import check_cohort, require_ready

    site = open_site(folder)
    report = check_cohort(read_contract(site), data_sources(site))
    if as_json:
        console.write_json(report.model_dump(mode="json"))
    console.show_check(report)
    require_ready(report)
    console.next_step(f"acf-client data prepare --folder {folder}")


@data_app.command("prepare")
def data_prepare(
    folder: Folder = HERE,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Make the tensors that training reads; repeating it does only what is missing.

    Example:  acf-client data prepare --workers 4
    """
    from acf_client.data import prepare_site
    from acf_client.site import open_site

    finished = console.show_preparation(prepare_site(open_site(folder), workers))
    if as_json:
        console.write_json(
            {
                "num_patients": finished.num_patients,
                "num_events": finished.num_events,
                "num_with_scans": finished.num_with_scans,
                "num_scans": finished.num_scans,
                "num_without_outcome": finished.num_without_outcome,
                "num_refused": sum(finished.refused.values()),
                "refused": finished.refused,
            }
        )
    console.say(f"Wrote {finished.manifest}")
    joins = finished.num_patients > 0
    command = "start" if joins else "predict PATIENT --model MODEL"
    console.next_step(f"acf-client {command} --folder {folder}")
