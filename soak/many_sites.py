"""Fifty thin sites on one small machine: the server's memory must not grow.

    OMP_NUM_THREADS=1 python soak/many_sites.py --write FILE.md

The sites are the product's own SuperNodes; in the trainers' place one program answers
for all of them, at once and signed, so that fifty fit on two cores. The server is the
product's: SuperLink, SuperExec, ServerApp, round loop, admission, aggregation.
"""

import argparse
import base64
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from consortium import Consortium, describe_machine

from acf_client.enrolment import finish_enrolment, start_enrolment
from acf_client.site import Site
from acf_client.site import initialise as initialise_site
from acf_client.supernode import start_supernode
from acf_client.trainer_link import Frame, listen, receive_frame, send_frame
from acf_server.coordinator import initialise
from acf_server.enrolment import approve_site, invite_site
from acf_server.run_config import RunConfig, RunSection
from acf_server.run_files import read_rounds, read_run
from acf_server.runs import create_run
from acf_server.superlink import free_loopback_port
from acfnet_core import __version__
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.federation.checkpoint import completed_rounds
from acfnet_core.federation.messages import (
    REPLY,
    CohortCounts,
    RoundReply,
    SiteMetrics,
    claim_about,
    parse_request,
)
from acfnet_core.federation.parameters import sha256_of
from acfnet_core.federation.readiness import Readiness, parse_readiness_request
from acfnet_core.identity.envelope import sign_update
from acfnet_core.identity.keys import load_key
from acfnet_core.processes import Child, stop_children
from acfnet_core.training.settings import LocalTrainingSettings

KIB_OF_MIB = 1024
TIMEOUT_S = 7200.0


def server_kib(made: Consortium) -> int:
    """Return the resident memory of the server's processes together."""
    total = 0
    for pid in made.processes_of("server"):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        resident = status.partition("VmRSS:")[2].split()
        total += int(resident[0]) if resident else 0
    return total


def enrol(made: Consortium, name: str) -> Site:
    """Enrol a site that has no data."""
    table = made.folder / "clinical.csv"
    table.touch()
    site = initialise_site(
        made.folder / "sites" / name,
        clinical_table=table,
        images=None,
        column_names={},
    )
    _, fingerprint = start_enrolment(site, invite_site(made.coordinator, name))
    admission = made.folder / f"{name}-admission.json"
    approve_site(made.coordinator, name, site.request_path, fingerprint, admission)
    finish_enrolment(site, admission)
    return site


def answer(site: Site, name: str, request: Frame) -> Frame:
    """Answer in a trainer's place: the parameters as they came, signed."""
    if request.parameters is None:
        asked = parse_readiness_request(request.document)
        told = Readiness(
            site=name,
            run=asked.run,
            version=__version__,
            device="cpu",
            free_disk_gib=1.0,
            free_memory_gib=1.0,
        )
        return Frame(REPLY, told.model_dump_json())
    wanted = parse_request(request.document)
    sent = request.parameters if wanted.trains else None
    sha256 = None if sent is None else sha256_of(sent)
    claim = claim_about(
        wanted, site=name, parameters_sha256=sha256, num_examples=1, reading_sha256=None
    )
    signature = sign_update(load_key(site.key_path), claim)
    untold = dict.fromkeys(CohortCounts.model_fields)
    reply = RoundReply(
        site=name,
        run=wanted.run,
        round=wanted.round,
        base_sha256=wanted.base_sha256,
        parameters_sha256=sha256,
        num_examples=1,
        num_steps=0,
        counts=CohortCounts.model_validate(untold),
        metrics=SiteMetrics(
            num_patients=None, num_events=None, loss=None, harrell_c=None
        ),
        seconds=0.0,
        signature=base64.b64encode(signature).decode(),
    )
    return Frame(REPLY, reply.model_dump_json(), sent)


def serve(site: Site, name: str) -> None:
    """Answer every request of a site, in a thread of its own."""
    site.make_socket_folder()
    site.trainer_socket.unlink(missing_ok=True)
    listener = listen(site.trainer_socket)

    def work() -> None:
        while True:
            link, _ = listener.accept()
            with link, suppress(OSError):
                send_frame(link, answer(site, name, receive_frame(link)))

    threading.Thread(target=work, daemon=True).start()


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    port = free_loopback_port()
    coordinator = initialise(
        folder / "coordinator",
        consortium="soak",
        address=f"127.0.0.1:{port}",
        contract_text=contract_to_toml(shipped_contract("crlm").without_imaging()),
        port=port,
    )
    made = Consortium(folder, coordinator, ())
    names = [f"site-{number:02d}" for number in range(options.sites)]
    sites = {name: enrol(made, name) for name in names}
    nodes: list[Child] = []
    try:
        made.start_all()
        for name, site in sites.items():
            serve(site, name)
            nodes.append(start_supernode(site, f"127.0.0.1:{port}"))
        run = create_run(
            coordinator,
            RunConfig(
                run=RunSection(
                    name="many",
                    study="Soak test",
                    sites=tuple(names),
                    rounds=options.rounds,
                    data_origin="synthetic",
                    round_timeout_s=1800.0,
                ),
                model={"size": "tiny"},
                training=LocalTrainingSettings(local_steps=1),
            ),
        )
        memory: dict[int, int] = {}
        begun = None
        started = monotonic()
        while read_run(run).status == "running":
            number = max(completed_rounds(run))
            memory[number] = server_kib(made)
            begun = begun or (monotonic() if number else None)
            if monotonic() - started > TIMEOUT_S:
                raise TimeoutError("the run did not end")
            sleep(0.5)
        seconds = monotonic() - (begun or started)
    finally:
        stop_children(nodes)
        made.stop()
    # The first rounds fill caches.
    numbers = np.array([n for n in memory if n >= options.rounds // 4])
    values = np.array([memory[n] for n in numbers]) / KIB_OF_MIB
    slope = float(np.polyfit(numbers, values, 1)[0])
    answered = sum(
        row.code is None and row.asked
        for record in read_rounds(run)
        for row in record.sites
    )
    yield (
        f"{options.sites} sites x {options.rounds} rounds ({describe_machine()}): run "
        f"{read_run(run).status}, {seconds / (options.rounds - 1):.1f} s a round after "
        f"the first, {answered} of "
        f"{options.sites * options.rounds} answers taken. The server's processes "
        f"together: {values.max():.0f} MiB at most, slope {slope:+.2f} MiB a round "
        f"from round {int(numbers.min())} on."
    )


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", type=Path, help="markdown file to write")
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n".join(play(options, options.folder or Path(temporary))) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
