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
        console.write_inspection(inspection)
    console.show_inspection(inspection)
    console.next_step(f"acf-client init SITE --clinical TABLE --images {folder}")


@data_app.command("synthesize")
def data_synthesize(
    folder: Annotated[Path, typer.Argument(help="Gets a folder for each hospital.")],
    sites: Annotated[int, typer.Option(min=1, max=26, help="Hospitals.")] = 4,
    patients: Annotated[
        int, typer.Option(min=1, max=9999, help="Patients of all together.")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Decides every byte.")] = 1,
    dialects: Annotated[
        bool, typer.Option(help="Each hospital writes its files in its own way.")
    ] = True,
    defects: Annotated[
        bool, typer.Option(help="Each hospital has faults, and an answer key.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Make up hospitals as real files, for trials; no patient is behind them.

    Example:  acf-client data synthesize trial --sites 4 --patients 40
    """
    from acf_client.data_synthesis import describe_hospital, synthesize_hospitals

    events = synthesize_hospitals(
        folder,
        num_sites=sites,
        num_patients=patients,
        seed=seed,
        has_dialects=dialects,
        has_defects=defects,
        num_workers=workers,
    )
    hospitals = [describe_hospital(one) for one in console.show_synthesis(events)]
    if as_json:
        console.write_json({"folder": str(folder), "sites": hospitals})
    console.next_step(f"acf-client data inspect {hospitals[0]['folder']}")


@data_app.command("check")
def data_check(
    folder: Folder = HERE,
    values: Annotated[
        Path | None,
        typer.Option(
            help="Write the table's faulty values into this private file.",
            show_default="they are shown nowhere",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at the table and the DICOM headers, and list what would be refused and why.

    Example:  acf-client data check
    """
    from acf_client.data import data_sources, read_contract, write_values
    from acf_client.site import open_site
    from acfnet_core.cohort.check import check_cohort, require_ready

    site = open_site(folder)
    report = check_cohort(read_contract(site), data_sources(site))
    if as_json:
        console.write_json(report.model_dump(mode="json"))
    console.show_check(report)
    if values is not None:
        num_values = write_values(site, values)
        console.say(
            f"Wrote {values}: {num_values} values of patients. It must not leave the "
            "site; delete it when the table is mended."
        )
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
                "repaired": finished.repaired,
            }
        )
    console.say(f"Wrote {finished.manifest}")
    joins = finished.num_patients > 0
    command = "start" if joins else "predict PATIENT --model MODEL"
    console.next_step(f"acf-client {command} --folder {folder}")


@data_app.command("report")
def data_report(
    folder: Folder = HERE,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page to write.", show_default="data-report.html in the folder"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one page with all of the data: counts, curves, refusals, every scan.

    Example:  acf-client data report --out /data/private/report.html
    """
    from acf_client.data_report import gather_report
    from acf_client.data_report_html import write_data_report
    from acf_client.site import open_site

    site = open_site(folder)
    report = gather_report(site)
    path = site.data_report_path if out is None else out
    size_bytes = write_data_report(report, path)
    content = {"report": str(path), "size_bytes": size_bytes, **report.as_json()}
    if as_json:
        console.write_json(content)
    console.show_data_report(content)
    command = "start" if report.is_prepared else "data prepare"
    console.next_step(f"acf-client {command} --folder {folder}")


@data_app.command("summary")
def data_summary(
    folder: Folder = HERE,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write it into this file, signed, for the coordinator.",
            show_default="it is shown alone",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show exactly the aggregate that would leave the site; nothing is sent.

    Example:  acf-client data summary --write summary.json
    """
    from acf_client.data_summary import summarise_data, write_summary
    from acf_client.data_summary_rows import summary_rows
    from acf_client.site import open_site

    site = open_site(folder)
    summary = summarise_data(site) if write is None else write_summary(site, write)
    if as_json:
        console.write_json(summary.model_dump(mode="json"))
    console.show_summary(summary_rows(summary))
    if write is None:
        console.say("Nothing has left the site: this is what --write would write.")
        console.next_step(
            f"acf-client data summary --write summary.json --folder {folder}"
        )
        return
    console.say(f"Wrote {write}: release {summary.release}, signed by this site.")
    console.next_step(
        f"send {write} to the coordinator, who runs: acf-server site data --take "
        f"{write.name}"
    )


@data_app.command("export")
def data_export(
    out: Annotated[Path, typer.Argument(help="A new or empty folder for the copy.")],
    folder: Folder = HERE,
    patients: Annotated[
        Path | None,
        typer.Option(
            help="A file with the identifiers to copy, one on each line.",
            show_default="all",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a de-identified copy of the scans in use and of the table.

    Example:  acf-client data export /data/copy --folder site
    """
    from acf_client.data_export import export_as_json, export_site
    from acf_client.site import open_site

    events = export_site(open_site(folder), out, patients=patients)
    finished = console.show_export(events)
    if as_json:
        console.write_json(export_as_json(finished))
    console.next_step(f"acf-client data inspect {out}")
