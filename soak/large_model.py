"""A model of 500 MB and two sites, through Flower's SQLite database.

    OMP_NUM_THREADS=1 python soak/large_model.py --write FILE.md

The way is that of soak/many_sites.py: the product's server and SuperNodes, and one
program that answers in the trainers' place. Only the initial model is another: random
arrays of the wanted size.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from consortium import Consortium, describe_machine
from many_sites import KIB_OF_MIB, enrol, serve, server_kib

from acf_client.supernode import start_supernode
from acf_server import run_writing
from acf_server.coordinator import initialise
from acf_server.run_config import RunConfig, RunSection
from acf_server.run_files import read_rounds, read_run
from acf_server.runs import create_run
from acf_server.superlink import free_loopback_port
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.processes import Child, stop_children
from acfnet_core.training.settings import LocalTrainingSettings

BYTES_OF_MB = 1_000_000
NUM_TENSORS = 20
TIMEOUT_S = 7200.0


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    size = options.mb * BYTES_OF_MB // 4 // NUM_TENSORS
    chance = np.random.default_rng(0)
    tensors = {
        f"tensor-{number:02d}": chance.standard_normal(size, np.float32)
        for number in range(NUM_TENSORS)
    }
    vars(run_writing)["model_arrays"] = lambda model: tensors
    port = free_loopback_port()
    coordinator = initialise(
        folder / "coordinator",
        consortium="soak",
        address=f"127.0.0.1:{port}",
        contract_text=contract_to_toml(shipped_contract("crlm").without_imaging()),
        port=port,
    )
    made = Consortium(folder, coordinator, ())
    sites = {name: enrol(made, name) for name in ("site-00", "site-01")}
    nodes: list[Child] = []
    peak_kib = 0
    try:
        made.start_all()
        for name, site in sites.items():
            serve(site, name)
            nodes.append(start_supernode(site, f"127.0.0.1:{port}"))
        config = RunConfig(
            run=RunSection(
                name="large",
                study="Soak test",
                sites=tuple(sites),
                rounds=options.rounds,
                data_origin="synthetic",
            ),
            model={"size": "tiny"},
            training=LocalTrainingSettings(local_steps=1),
        )
        run = create_run(coordinator, config)
        started = monotonic()
        while read_run(run).status == "running":
            peak_kib = max(peak_kib, server_kib(made))
            if monotonic() - started > TIMEOUT_S:
                raise TimeoutError("the run did not end")
            sleep(0.5)
    finally:
        stop_children(nodes)
        made.stop()
    rounds = [record for record in read_rounds(run) if record.round]
    answered = sum(row.code is None for record in rounds for row in record.sites)
    seconds = sum(record.seconds for record in rounds) / len(rounds)
    yield (
        f"{options.mb} MB, 2 sites, {options.rounds} rounds ({describe_machine()}): "
        f"run {read_run(run).status}, {answered} of {2 * options.rounds} answers "
        f"taken, {seconds:.0f} s a round; the server's processes together "
        f"{peak_kib / KIB_OF_MIB:.0f} MiB at most."
    )


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mb", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
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
