"""What encoding the sites' updates saves, and what it does to the model.

    OMP_NUM_THREADS=1 python benchmarks/compression.py --write benchmarks/compression.md

The table and its divisions are those of benchmarks/strategies.py, every run is FedAvg.
Only here can what an encoding leaves out be thrown away instead of fed back, and the
largest values be taken from each array by itself: both are put in the place of what the
sites do.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from time import perf_counter, process_time
from unittest import mock

import numpy as np
from strategies import (
    NUM_BOOTSTRAP,
    NUM_PATIENTS,
    NUM_ROUNDS,
    NUM_SITES,
    SEEDS,
    Division,
    concordance,
    estimate,
    spread,
    write_table,
)

from acf_server.run_config import RunConfig
from acf_server.simulation import Simulation, Watchers, simulate
from acf_server.simulation_data import DividedTable
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.evaluation.verdict import ModelScore
from acfnet_core.federation import compression
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.compression import (
    CompressedUpdate,
    Places,
    UpdateSettings,
    compress_update,
    largest_places,
    received_parameters,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    ParameterLayout,
    flatten,
    layout_of,
)
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import build_model
from acfnet_core.training import site_work
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.reproducibility import make_deterministic
from acfnet_core.training.site_state import SiteState

DIVISIONS = (Division("iid"), Division("label", 0.1))
MEGABYTE = 1_000_000
SIZES_MB = (1, 20, 200)
LINES_MBIT = (10, 100, 1000)
_VALUE_BYTES = 4


@dataclass(frozen=True)
class Variant:
    """A way to send updates.

    Attributes:
        feeds_back: What is left out is kept for the next round.
        by_array: top_k takes its share of each array, not of the whole.
    """

    updates: UpdateSettings
    feeds_back: bool = True
    by_array: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        share = self.updates.top_k_share
        told = self.updates.compression + (f" {share:g}" if share else "")
        told += ", by array" if self.by_array else ""
        return told + ("" if self.feeds_back else ", no feedback")


def _top_k(share: float) -> UpdateSettings:
    return UpdateSettings(compression="top_k", top_k_share=share)


HALVES = UpdateSettings(compression="float16")
SHARES = (0.1, 0.01, 0.001)
VARIANTS = (
    Variant(UpdateSettings()),
    Variant(HALVES),
    Variant(HALVES, feeds_back=False),
    *(
        variant
        for share in SHARES
        for variant in (
            Variant(_top_k(share)),
            Variant(_top_k(share), feeds_back=False),
            Variant(_top_k(share), by_array=True),
        )
    ),
)


@dataclass(frozen=True)
class Played:
    """What is told of a run."""

    score: ModelScore
    num_bytes: float
    """From a site in a round."""
    num_values: int
    num_moved: int
    """Values of the final model that are not those of the initial one."""


def forget(
    base: FlatParameters,
    trained: FlatParameters,
    residual: FlatParameters | None,
    settings: UpdateSettings,
) -> CompressedUpdate:
    """Encode an update without what earlier rounds left out."""
    del residual
    return compress_update(base, trained, None, settings)


def places_by_array(
    layout: ParameterLayout, difference: FlatParameters, num_kept: int
) -> Places:
    """Take from each array its share of the places, as many as there are in all."""
    ends = np.cumsum([0, *(prod(shape) for shape in layout.shapes)])
    shares = np.round(ends * (num_kept / difference.size)).astype(int)
    found = [
        start + largest_places(difference[start:stop], count)
        for start, stop, count in zip(ends, ends[1:], np.diff(shares), strict=False)
        if count
    ]
    return np.concatenate(found)


def in_place(variant: Variant, layout: ParameterLayout) -> AbstractContextManager[None]:
    """Put in the sites' place what a variant does otherwise."""
    if not variant.feeds_back:
        return mock.patch.object(site_work, "compress_update", forget)
    if variant.by_array:
        chosen = partial(places_by_array, layout)
        return mock.patch.object(compression, "largest_places", chosen)
    return nullcontext()


def play(
    table: Path, division: Division, variant: Variant, seed: int, num_rounds: int
) -> Played:
    """Simulate one run."""
    config = RunConfig.model_validate(
        {
            "run": {
                "name": f"run-{seed}",
                "study": "Encoded updates",
                "sites": tuple(f"site-{number}" for number in range(NUM_SITES)),
                "rounds": num_rounds,
                "seed": seed,
                "data_origin": "synthetic",
            },
            "training": {"local_epochs": 1},
            "updates": variant.updates,
        }
    )
    cohorts = DividedTable(
        sources=CohortSources(clinical_table=table),
        contract="crlm",
        num_sites=NUM_SITES,
        split=division.kind,
        concentration=division.concentration,
    )
    with tempfile.TemporaryDirectory() as folder:
        with in_place(variant, tiny_layout()):
            found = simulate(
                Simulation(
                    config=config,
                    cohorts=cohorts,
                    folder=Path(folder) / "out",
                    num_bootstrap=NUM_BOOTSTRAP,
                    compares=False,
                ),
                Watchers(),
            )
        (records,) = Path(folder).rglob("rounds.json")
        rounds = json.loads(records.read_text())
        first, last = (
            flatten(load_checkpoint(records.parent, number)[0])
            for number in (0, num_rounds)
        )
    received = [one["bytes_received"] for one in rounds if one["bytes_received"]]
    return Played(
        score=found.scores[0],
        num_bytes=float(np.mean(received)) / NUM_SITES,
        num_values=first.size,
        num_moved=int(np.count_nonzero(first != last)),
    )


def tiny_layout() -> ParameterLayout:
    """Return the layout of the model that is trained."""
    config = AcfNetConfig.model_validate({"size": "tiny", "num_clinical_features": 13})
    return layout_of(model_arrays(build_model(config, seed=0)))


def interval(scores: Sequence[ModelScore]) -> str:
    """Write the ends of the 95 % intervals of Harrell's C, each a mean over seeds."""
    found = [score.harrell_c for score in scores if score.harrell_c is not None]
    lower = np.mean([one.low for one in found if one.low is not None])
    upper = np.mean([one.high for one in found if one.high is not None])
    return f"{lower:.3f} to {upper:.3f}"


def tell_division(
    table: Path, division: Division, options: argparse.Namespace
) -> Iterator[str]:
    """Yield the table of one way to divide."""
    yield f"## {division.name}"
    yield ""
    yield (
        "| updates | kB of a site and round | Harrell's C | 95 % interval | C minus "
        "none | integrated Brier score | Brier minus none |"
    )
    yield "|---|---|---|---|---|---|---|"
    plain: list[Played] = []
    for variant in VARIANTS:
        runs = [
            play(table, division, variant, seed, options.rounds)
            for seed in SEEDS[: options.seeds]
        ]
        plain = plain or runs
        yield row(variant, runs, plain)
    yield ""
    one = plain[0]
    sent = ", ".join(str(_top_k(share).num_kept(one.num_values)) for share in SHARES)
    yield (
        f"The model has {one.num_values} values; {one.num_moved} of them moved in the "
        "run without encoding and seed 1. The others belong to the images, which these "
        f"patients lack. Of all values top_k sends {sent}."
    )
    yield ""


def row(variant: Variant, runs: Sequence[Played], plain: Sequence[Played]) -> str:
    """Write a line of the table."""
    scores = [one.score for one in runs]
    values = [concordance(score) for score in scores]
    briers = [estimate(score.integrated_brier) for score in scores]
    before = [concordance(one.score) for one in plain]
    briers_before = [estimate(one.score.integrated_brier) for one in plain]
    cells = (
        variant.name,
        f"{np.mean([one.num_bytes for one in runs]) / 1000:.1f}",
        spread(values),
        interval(scores),
        spread(np.subtract(values, before).tolist()),
        spread(briers),
        spread(np.subtract(briers, briers_before).tolist()),
    )
    return "| " + " | ".join(cells) + " |"


def seconds_of(work: Callable[[], object], *, times: int) -> float:
    """Return the least seconds that something took."""
    found = []
    for _ in range(times):
        started = perf_counter()
        work()
        found.append(perf_counter() - started)
    return min(found)


def tell_seconds() -> Iterator[str]:
    """Yield what encoding and decoding take, by the model's size."""
    yield "## Seconds"
    yield ""
    lines = " | ".join(f"{mbit} Mbit/s" for mbit in LINES_MBIT)
    yield (
        "| model | updates | MB sent | encode | write what is kept | decode | "
        f"{lines} |"
    )
    yield "|---|---|---|---|---|---|" + "---|" * len(LINES_MBIT)
    for size_mb in SIZES_MB:
        rng = np.random.default_rng(size_mb)
        base, trained, kept = (
            rng.standard_normal(size_mb * MEGABYTE // _VALUE_BYTES, dtype=np.float32)
            for _ in range(3)
        )
        for updates in (UpdateSettings(), HALVES, _top_k(0.1), _top_k(0.01)):
            yield seconds_row(size_mb, updates, base, trained, kept)
    yield ""


def seconds_row(
    size_mb: int,
    updates: UpdateSettings,
    base: FlatParameters,
    trained: FlatParameters,
    kept: FlatParameters,
) -> str:
    """Write a line: seconds of the processor, and of the line to the server."""
    sent = updates.num_bytes(base.size)
    cells = [f"{size_mb} MB", Variant(updates).name, f"{sent / MEGABYTE:.2f}"]
    if updates.is_on:
        times = 1 if size_mb >= max(SIZES_MB) else 3
        update = compress_update(base, trained, kept, updates)
        with tempfile.TemporaryDirectory() as folder:
            state = SiteState(Path(folder))
            work = (
                lambda: compress_update(base, trained, kept, updates),
                lambda: state.save(1, update.residual, after=0),
                lambda: received_parameters(update.encoded, base, updates),
            )
            cells += [f"{seconds_of(one, times=times):.3f}" for one in work]
    else:
        cells += ["", "", ""]
    cells += [f"{8 * sent / (mbit * MEGABYTE):.2f}" for mbit in LINES_MBIT]
    return "| " + " | ".join(cells) + " |"


def tell(options: argparse.Namespace) -> Iterator[str]:
    """Yield the page, as it comes about."""
    started = process_time()
    listed = ", ".join(map(str, SEEDS[: options.seeds]))
    yield "# Encoded updates"
    yield ""
    yield "`benchmarks/compression.py` writes this page."
    yield ""
    yield (
        f"A made-up clinical table of {options.patients} patients without scans, "
        f"{NUM_SITES} pseudo-sites, {options.rounds} rounds of one pass, FedAvg, size "
        "tiny, batches of 8, AdamW at 1e-3. A fifth is kept back and judges all. "
        f"Figures are means over seeds {listed}, in brackets the least and the most; "
        "the interval's ends are means over the seeds "
        f"({NUM_BOOTSTRAP} resamples). kB is 1000 bytes of what a site sends; what it "
        "receives is the plain model. Differences are from the run of the same seed "
        "without encoding."
    )
    yield ""
    if not options.only_seconds:
        with tempfile.TemporaryDirectory() as folder:
            table = write_table(Path(folder) / "table.csv", options.patients)
            for division in DIVISIONS[: options.divisions]:
                yield from tell_division(table, division, options)
    yield from tell_seconds()
    yield (
        "Encode is what a site does beyond plain sending, but for the writing; the "
        "last columns are what the bytes take on a line of that speed, nothing else "
        "on it."
    )
    yield ""
    yield f"{process_time() - started:.0f} s of one core."


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    parser.add_argument("--patients", type=int, default=NUM_PATIENTS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--divisions", type=int, default=len(DIVISIONS))
    parser.add_argument("--only-seconds", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    make_deterministic(num_threads=1)
    lines = []
    for line in tell(options):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
