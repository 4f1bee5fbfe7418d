"""The commands of the coordinator: parse, call, render; no logic.

Heavy imports stand inside the commands, so that --help is instant.
"""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from acf_server.options import HERE, AsJson, Folder, console, next_step, write_json
from acf_server.run_cli import run_app
from acf_server.simulate_cli import simulate
from acfnet_core.edge import run_program

app = typer.Typer(
    help="The coordinator of a federation: enrol sites, train, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Typer escapes for rich what only rich's markup takes back: `\[required]`.
typer.core.HAS_RICH = False
site_app = typer.Typer(help="Invite, approve and list sites.", no_args_is_help=True)
app.add_typer(site_app, name="site")
app.add_typer(run_app, name="run")
app.command()(simulate)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--dir", help="A new or empty folder.")
    ] = Path("acf-demo"),
    sites: Annotated[int, typer.Option(min=1, max=8, help="Hospitals.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=200, help="Rounds.")] = 8,
    patients: Annotated[
        int | None, typer.Option(help="Made-up patients of all sites together.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model.")] = 2,
    clinical: Annotated[
        Path | None,
        typer.Option(help="A real table in place of made-up patients."),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option(help="Its table of CT series.", show_default="beside it"),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(help="A column to use; repeat it.", show_default="all allowed"),
    ] = None,
    local_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps a round.", show_default="1 epoch"),
    ] = None,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave all processes up at the end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play a whole consortium on this machine, from DICOM files to a report.

    Example:  acf-server demo --dir /tmp/consortium --rounds 8
    """
    from acf_server.demo import DemoResult, DemoSettings, play_demo

    settings = DemoSettings(
        folder=folder,
        num_sites=sites,
        num_rounds=rounds,
        num_patients=patients,
        seed=seed,
        clinical_table=clinical,
        series_table=series,
        features=tuple(feature or ()),
        local_steps=local_steps,
        keep_running=keep_running,
    )

    def tell(result: DemoResult) -> None:
        if as_json:
            write_json(result.as_json())

    play_demo(settings, console, tell)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    consortium: Annotated[str, typer.Option(help="Its name, e.g. crlm-europe.")],
    address: Annotated[str, typer.Option(help="host:port that sites will reach.")],
    contract: Annotated[
        str, typer.Option(help="A contract.toml, or the name of a shipped one.")
    ] = "crlm",
    port: Annotated[int, typer.Option(help="Flower's port on loopback.")] = 9092,
    root_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="Encrypts the root key.", show_default="made here"),
    ] = None,
) -> None:
    """Set up the coordinator's folder: certificates, contract, registry.

    Example:  acf-server init coordinator --consortium crlm-europe
              --address acf.example.org:443
    """
    from acf_server.coordinator import initialise
    from acf_server.pki import ROOT_KEY_ADVICE
    from acfnet_core.cohort.contract import find_contract
    from acfnet_core.cohort.contract_toml import contract_to_toml
    from acfnet_core.identity.keys import read_private_file

    coordinator = initialise(
        folder,
        consortium=consortium,
        address=address,
        contract_text=contract_to_toml(find_contract(contract)),
        port=port,
        root_passphrase=(
            read_private_file(root_passphrase_file).strip()
            if root_passphrase_file
            else None
        ),
    )
    console.say(f"Wrote {coordinator.folder}: server.toml, contract.toml, pki/.")
    console.say(f"Root fingerprint: {coordinator.root_fingerprint}")
    if root_passphrase_file is None:
        console.say(ROOT_KEY_ADVICE)
    next_step(f"acf-server site invite HOSPITAL --folder {folder}")


@site_app.command("invite")
def site_invite(
    name: Annotated[str, typer.Argument(help="The site's name, e.g. hospital-a.")],
    folder: Folder = HERE,
    hours: Annotated[int, typer.Option(help="How long it is good for.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Make the one line that a site needs to enrol; give it to the site in private.

    Example:  acf-server site invite hospital-a
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.enrolment import invite_site

    line = invite_site(open_coordinator(folder), name, hours=hours)
    if as_json:
        write_json({"site": name, "invitation": line})
    else:
        typer.echo(line)
    console.say(f"Give this line to {name} in private; it is good for {hours} hours.")
    next_step("at the site: acf-client enroll LINE --folder SITE")


@site_app.command("approve")
def site_approve(
    name: Annotated[str, typer.Argument(help="The site's name.")],
    request: Annotated[Path, typer.Option(help="The file that the site sent.")],
    fingerprint: Annotated[str, typer.Option(help="As read over the telephone.")],
    admission: Annotated[
        Path | None, typer.Option(help="Where to write the admission.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Admit a site, once its fingerprint was compared over the telephone.

    Example:  acf-server site approve hospital-a --request enrolment-request.json
              --fingerprint "ABCD-EFGH-..."
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.enrolment import approve_site
    from acf_server.superlink import register_if_running

    coordinator = open_coordinator(folder)
    target = admission or Path(f"{name}-admission.json")
    written = approve_site(coordinator, name, request, fingerprint, target)
    register_if_running(coordinator)
    if as_json:
        write_json({"site": name, "admission": str(written)})
    console.say(f"Wrote {written}; send it to {name}. It holds no secret.")
    next_step(
        f"at the site: acf-client enroll --admission {written.name} --folder SITE"
    )


@site_app.command("list")
def site_list(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the sites and how far their enrolment has come.

    Example:  acf-server site list --json
    """
    from acf_server.coordinator import open_coordinator

    sites = open_coordinator(folder).registry.list_sites()
    if as_json:
        write_json([{"site": site.name, "status": site.status} for site in sites])
        return
    for site in sites:
        typer.echo(f"{site.name:<30} {site.status}")
    if not sites:
        next_step("acf-server site invite HOSPITAL")


@site_app.command("data")
def site_data(
    take: Annotated[
        Path | None, typer.Option(help="Take this summary, which a site sent.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what the sites told of their data, side by side, and where it differs.

    Example:  acf-server site data --take summary.json
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.site_data import compare_sites, take_summary

    coordinator = open_coordinator(folder)
    if take is not None:
        taken = take_summary(coordinator, take).summary
        console.say(f"Took release {taken.release} of {taken.site}.")
    compared = compare_sites(coordinator)
    if as_json:
        write_json(compared.as_json())
    next_step(console.show_site_data(compared, folder))


@app.command()
def start(folder: Folder = HERE) -> None:
    """Run the server until Ctrl-C.

    Example:  acf-server start --folder coordinator
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.metrics_endpoint import metrics_endpoint
    from acf_server.run_keeper import RunKeeper
    from acf_server.superlink import running_server
    from acfnet_core.processes import READY

    coordinator = open_coordinator(folder)
    with (
        metrics_endpoint(coordinator, tell=console.say),
        running_server(coordinator, tell=console.say) as supervisor,
    ):
        console.say(
            f"{READY} Listening on {coordinator.config.listen_host}:"
            f"{coordinator.config.listen_port}; logs in {coordinator.logs_folder}. "
            "Ctrl-C ends the server; runs go on when it is started again."
        )
        supervisor.watch(RunKeeper(coordinator, tell=console.say).tend)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    clinical: Annotated[
        Path | None, typer.Option(help="Table of the held-out patients.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Their DICOM files.", show_default="none")
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(help="A file that describes both; see docs/evaluation.md."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="A table, or such a file, for the baselines; repeat it."),
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Judge a run's model on held-out patients, beside Kaplan-Meier, Fong and Cox.

    Example:  acf-server evaluate first --clinical held-out.xlsx --images held-out/
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.evaluation import evaluate_tables
    from acf_server.evaluation_sources import held_out_sources, reference_sources
    from acf_server.runs import find_run

    coordinator = open_coordinator(folder)
    run_folder = find_run(coordinator, run)
    verdict = evaluate_tables(
        coordinator,
        run_folder,
        held_out=held_out_sources(clinical=clinical, images=images, cohort=cohort),
        references=[reference_sources(path) for path in reference or []],
        notify=lambda event: console.preparing("held-out", event),
    )
    if as_json:
        write_json(verdict.model_dump(mode="json"))
    console.verdict(verdict)
    next_step(f"acf-server report {run} --folder {folder}")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write a run's report: one HTML file that needs no network.

    Example:  acf-server report first
    """
    from acf_server.coordinator import open_coordinator
    from acf_server.report import write_report
    from acf_server.runs import find_run

    path = write_report(find_run(open_coordinator(folder), run))
    if as_json:
        write_json({"report": str(path)})
    console.say(f"Wrote {path}; open it in a browser.")


@app.command()
def model(as_json: AsJson = False) -> None:
    """Show what each size and ablation of the network costs; see docs/model.md.

    Example:  acf-server model --json
    """
    from acf_server.model_table import (
        describe_figures,
        measure_models,
        num_rows,
        render_table,
    )

    rows = []
    with console.progress("counting", num_rows()) as bar:
        for row in measure_models():
            rows.append(row)
            bar.set_done(len(rows))
    if as_json:
        write_json([row.model_dump() for row in rows])
        return
    for line in render_table(rows):
        typer.echo(line)
    for line in describe_figures():
        console.say(line)


def main() -> None:
    """Run the command line."""
    run_program(app, console)
