"""Random SIGKILLs of sites and of the server: nothing complete may be lost.

    OMP_NUM_THREADS=1 python soak/kills.py --write docs/figures.md

A run is played without disturbance, and again under kills: of every process of the
sites, of every process of the server, and of the server's process that writes a
checkpoint, while it writes. Whoever starts the two commands is stood in for by this
program, as systemd would; no other hand is lent. The parameters after the last round
must be those of the undisturbed run, bit for bit, and no round that was complete before
a kill may be gone after it.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from consortium import (
    Consortium,
    command_of,
    consortium,
    describe_machine,
    kill,
    parameters_after,
)

from acf_server.run_files import read_run
from acfnet_core.federation.checkpoint import (
    MANIFEST_FILE,
    completed_rounds,
    round_folder,
)
from acfnet_core.federation.compression import UpdateSettings

SEED = 3
NUM_SITES = 2
LONGEST_PAUSE_S = 4.0
"""Between two kills, at most; often less than a round, often less than a restart."""
TIMEOUT_S = 7200.0


@dataclass
class Tally:
    """What was killed and what was lost."""

    killed: Counter[str] = field(default_factory=Counter)
    lost_rounds: int = 0
    num_rounds: int = 0
    seconds: float = 0.0
    is_equal: bool = False


def what_is(command: str) -> str:
    """Name a process by its command line."""
    names = {
        "acf_client.trainer": "trainer",
        "acf_client.supernode_process": "SuperNode",
        "acf_client start": "acf-client start",
        "acf_server.superlink_process": "SuperLink",
        "flower-superexec": "SuperExec",
        "flwr-serverapp": "ServerApp",
        "acf_server start": "acf-server start",
    }
    return next((name for key, name in names.items() if key in command), "other")


def kill_one(made: Consortium, side: str, chance: random.Random) -> str | None:
    """Kill a random process of a site or of the server."""
    names = ["server"] if side == "server" else [site.name for site in made.sites]
    pids = made.processes_of(chance.choice(names))
    pid = chance.choice(pids)
    name = what_is(command_of(pid))
    return name if name != "other" and kill(pid) else None


def kill_while_writing(made: Consortium, run_folder: Path, until: float) -> str | None:
    """Kill the process that writes a checkpoint between its first and its last file."""
    number = max(completed_rounds(run_folder)) + 1
    folder = round_folder(run_folder, number)
    while monotonic() < until:
        try:
            names = {path.name for path in folder.iterdir()}
        except FileNotFoundError:
            continue
        if MANIFEST_FILE in names:
            return None
        for pid in made.processes_of("server"):
            if "flwr-serverapp" in command_of(pid):
                is_written = (folder / MANIFEST_FILE).exists()
                return "ServerApp, writing" if not is_written and kill(pid) else None
        return None
    return None


def play_under_kills(
    made: Consortium, run_folder: Path, *, sites: int, server: int, writing: int
) -> Tally:
    """Kill until the numbers are reached, then let the run end."""
    chance, tally = random.Random(SEED), Tally()  # noqa: S311 - no secret
    plan = ["site"] * sites + ["server"] * server + ["writing"] * writing
    chance.shuffle(plan)
    started, seen = monotonic(), set[int]()
    while plan and read_run(run_folder).status == "running":
        kind = plan[-1]
        if kind == "writing":
            name = kill_while_writing(made, run_folder, monotonic() + LONGEST_PAUSE_S)
        else:
            sleep(chance.uniform(0.0, LONGEST_PAUSE_S))
            name = kill_one(made, kind, chance)
        if name is not None:
            plan.pop()
            tally.killed[name] += 1
        else:
            chance.shuffle(plan)
        made.restart_ended()
        done = set(completed_rounds(run_folder))
        tally.lost_rounds += len(seen - done)
        seen |= done
    made.wait_for_run(run_folder, timeout_s=TIMEOUT_S)
    tally.seconds, tally.num_rounds = monotonic() - started, len(seen) - 1
    return tally


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    with consortium(folder, num_sites=NUM_SITES) as made:
        updates = UpdateSettings(compression=options.compression)
        calm = made.begin_run("calm", rounds=options.rounds, updates=updates)
        started = monotonic()
        made.wait_for_run(calm, timeout_s=TIMEOUT_S)
        calm_seconds = monotonic() - started
        rough = made.begin_run("rough", rounds=options.rounds, updates=updates)
        tally = play_under_kills(
            made,
            rough,
            sites=options.sites,
            server=options.server,
            writing=options.writing,
        )
        tally.is_equal = all(
            parameters_after(calm, number) == parameters_after(rough, number)
            for number in range(options.rounds + 1)
        )
    yield (
        f"{options.rounds} rounds over {NUM_SITES} sites, compression "
        f"{options.compression} ({describe_machine()}): "
        f"{calm_seconds:.0f} s undisturbed, {tally.seconds:.0f} s under "
        f"{tally.killed.total()} kills.\n"
    )
    yield "| killed | times |\n|---|---|"
    yield from (f"| {name} | {n} |" for name, n in sorted(tally.killed.items()))
    yield (
        f"\nStatus {read_run(rough).status}; complete rounds lost: "
        f"{tally.lost_rounds}; parameters after every round "
        f"{'bit-equal' if tally.is_equal else 'DIFFERENT'}."
    )


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sites", type=int, default=100, help="kills of sites")
    parser.add_argument("--server", type=int, default=100, help="kills of the server")
    parser.add_argument("--writing", type=int, default=20, help="kills in a write")
    parser.add_argument("--rounds", type=int, default=260)
    parser.add_argument("--compression", default="none", help="of the updates")
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
