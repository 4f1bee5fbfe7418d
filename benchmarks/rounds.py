"""What a round costs without training: ours, NVIDIA FLARE and plain Flower.

    python benchmarks/rounds.py --peers ours,flare,flower --sites 2 --mb 1 --json

Every peer runs its server and sites as processes of this machine, with TLS, and sends a
model of float32 tensors to each site and back; a site adds a small number to all of its
values. Each peer but ours has an environment of its own, which is made the first time.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from round_peers import flare, flower, ours
from round_peers.environments import environment_of, version_of
from round_peers.measurement import FEWEST_ROUNDS, Cost, Play, measure

from acfnet_core.edge import end_on_signals

PLAYS: dict[str, dict[str, Play]] = {
    "ours": {"ours": ours.play},
    "flare": flare.PLAYS,
    "flower": flower.PLAYS,
}
"""Peer to its rows; one row can be asked for by its own name as well."""
OURS = "ours"
_BYTES_OF_MB = 1e6


def main() -> None:
    """Run the benchmark."""
    options = _parse()
    end_on_signals()
    costs = []
    for mb in options.mb:
        for num_sites in options.sites:
            for peer, name, play in rows_of(options.peers):
                environment = environment_of(peer, options.environments)
                print(f"{name}: {num_sites} sites, {mb:g} MB", file=sys.stderr)
                cost = measure(
                    play,
                    peer=name,
                    version=version_of(peer, environment),
                    environment=environment,
                    num_sites=num_sites,
                    mb=mb,
                    num_rounds=options.rounds,
                )
                print(f"  {cost.seconds_per_round:.2f} s a round", file=sys.stderr)
                costs.append(cost)
                page = "\n".join(tell(costs, options.rounds)) + "\n"
                if options.write:
                    # After each, since the whole takes an hour.
                    options.write.write_text(page)
    if options.json:
        print(json.dumps([cost.as_json() for cost in costs]))
    else:
        print(page)


def rows_of(names: Sequence[str]) -> Iterator[tuple[str, str, Play]]:
    """Yield peer, row and how to play it, of all rows that were asked for.

    Raises:
        ValueError: A name is neither a peer's nor a row's.
    """
    for name in names:
        found = [
            (peer, row, play)
            for peer, rows in PLAYS.items()
            for row, play in rows.items()
            if name in (peer, row)
        ]
        if not found:
            raise ValueError(f"no peer {name!r}")
        yield from found


def tell(costs: Sequence[Cost], num_rounds: int) -> Iterator[str]:
    """Yield the page."""
    yield "# What a round costs without training\n"
    yield "`make rounds`\n"
    yield f"{_machine()}; {num_rounds} rounds each, the first left out.\n"
    versions = dict.fromkeys(f"{cost.peer} {cost.version}" for cost in costs)
    yield f"Versions: {', '.join(versions)}.\n"
    for line in EXPLANATIONS:
        yield f"- {line}"
    for mb, sites in dict.fromkeys((cost.mb, cost.sites) for cost in costs):
        yield f"\n## {mb:g} MB, {sites} sites\n"
        yield from _table([c for c in costs if (c.mb, c.sites) == (mb, sites)])


EXPLANATIONS = (
    "s: median, by the server's own clock, from the end of a round to that of the "
    "next. In brackets: how many times as long as ours.",
    "CPU s: mean processor seconds of all processes of server and sites, ended ones "
    "included; not of the command that began the run and follows it.",
    "MB sent: mean of the TLS streams between the server and all sites, both ways, as "
    "a relay in front of the server counts them; every peer has it.",
    "server MB: largest resident memory of the server's processes together, start and "
    "first round included; site MB the same of one site. Ours has torch in it, which "
    "the apps of the others leave out.",
    "ours: `acf-server start`, enrolment by files, `acf-client start` with the real "
    "trainer process, less its patients and its training. Signatures, admission, "
    "checkpoints on the disk and node authentication are on.",
    "flare: POC mode with mutual TLS, NumPy FedAvg recipe, Client API in the process; "
    f"flare-fast: with each wait that a setting decides lowered to {flare.FAST_S:g} s; "
    "its Client API's own look for a result, every 0.5 s, has none.",
    "flower: SuperLink and SuperNodes as they come, FedAvg, an app without torch, "
    "which trains and evaluates; flower-train: trains only, so one message a round.",
)


def _table(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield the rows of one size, each with its ratio to ours."""
    ours_cost = next((cost for cost in costs if cost.peer == OURS), None)
    yield "| peer | s | CPU s | MB sent | server MB | site MB |"
    yield "|---|---|---|---|---|---|"
    for cost in costs:
        cells = []
        for value, form, base in (
            (cost.seconds_per_round, ".2f", "seconds_per_round"),
            (cost.cpu_seconds_per_round, ".2f", "cpu_seconds_per_round"),
            (cost.bytes_per_round / _BYTES_OF_MB, ".2f", "bytes_per_round"),
            (cost.peak_rss_mb, ".0f", "peak_rss_mb"),
            (cost.site_peak_rss_mb, ".0f", "site_peak_rss_mb"),
        ):
            cell = f"{value:{form}}"
            if ours_cost is not None and cost is not ours_cost:
                ratio = getattr(cost, base) / getattr(ours_cost, base)
                cell += f" ({ratio:.1f})"
            cells.append(cell)
        yield f"| {cost.peer} | {' | '.join(cells)} |"


def _machine() -> str:
    """Return what the figures were taken on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"{day}: {os.cpu_count()} cores of {model}, load {os.getloadavg()[2]:.1f} over "
        f"the last 15 minutes; Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def _parse() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [row for _, row, _ in rows_of(text.split(","))] and text.split(",")

    def numbers(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--peers", type=names, default=list(PLAYS), help="and rows")
    parser.add_argument(
        "--sites",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[2],
    )
    parser.add_argument("--mb", type=numbers, default=[1.0], help="size of the model")
    parser.add_argument("--rounds", type=int, default=6, help="the first is left out")
    parser.add_argument(
        "--environments",
        type=Path,
        default=_cache_folder() / "acfnet-rounds",
        help="where the peers' environments are kept",
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    if options.rounds < FEWEST_ROUNDS:
        parser.error(f"--rounds must be at least {FEWEST_ROUNDS}")
    return options


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))


if __name__ == "__main__":
    main()
