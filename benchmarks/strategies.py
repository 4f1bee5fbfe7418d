"""What each strategy is worth where sites differ, beside pooled and local training.

    OMP_NUM_THREADS=1 python benchmarks/strategies.py --write benchmarks/strategies.md

One made-up clinical table is divided into pseudo-sites in several ways, and every
strategy is run over them by `acf_server.simulation`. A fifth of the patients is kept
back and judges all. With `--strategies` and `--splits` only some are run.
"""

import argparse
import csv
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from acf_server.run_config import RunConfig
from acf_server.simulation import Simulation, Watchers, simulate
from acf_server.simulation_data import DividedTable
from acf_server.simulation_result import POOLED, SimulationResult, reaches
from acfnet_core.cohort.site_splits import SplitKind
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.patient import draw_patient
from acfnet_core.evaluation.verdict import Interval, ModelScore
from acfnet_core.training.reproducibility import make_deterministic

NUM_SITES = 4
NUM_ROUNDS = 10
NUM_PATIENTS = 600
NUM_BOOTSTRAP = 200
SEEDS = (1, 2, 3)
TABLE_SEED = 11
ADAPTIVE = {"server_learning_rate": 0.01}
SGD = {"optimiser": "sgd", "learning_rate": 0.03}
STRATEGIES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "fedavg": ({}, {}),
    "fedprox": ({"proximal_mu": 0.1}, {}),
    "fedavgm": ({}, {}),
    "fedadam": (ADAPTIVE, {}),
    "fedyogi": (ADAPTIVE, {}),
    "fedadagrad": (ADAPTIVE, {}),
    "median": ({}, {}),
    "trimmed_mean": ({"trimmed_share": 0.25}, {}),
    "multi_krum": ({"num_malicious": 0, "num_kept": 2}, {}),
    "fedavg, sgd": ({}, SGD),
    "scaffold": ({}, SGD),
}
"""By what the table calls it: parameters of the strategy, and of the training. SCAFFOLD
needs plain SGD, so FedAvg with SGD stands beside it."""


@dataclass(frozen=True)
class Division:
    """How the sites differ."""

    kind: SplitKind
    concentration: float = 1.0

    @property
    def name(self) -> str:
        """What the table calls it."""
        return "iid" if self.kind == "iid" else f"{self.kind} {self.concentration:g}"


DIVISIONS = (
    Division("iid"),
    Division("size", 0.5),
    Division("label", 1.0),
    Division("label", 0.1),
)


def write_table(path: Path, num_patients: int) -> Path:
    """Write a made-up clinical table without scans."""
    rows = []
    for index in range(num_patients):
        patient = draw_patient(
            "site", index, seed=TABLE_SEED, scans_missing_probability=1.0
        )
        row = {**patient.row, "Patient-ID": f"patient-{index:05d}"}
        row.pop("date_of_liver_resection", None)
        rows.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@dataclass(frozen=True)
class Compared:
    """A run and, for the same patients and training, the run with the pooled model."""

    run: SimulationResult
    reference: SimulationResult

    @property
    def own(self) -> ModelScore:
        """The run's model."""
        return self.run.scores[0]

    @property
    def pooled(self) -> ModelScore:
        """The pooled model."""
        return next(one for one in self.reference.scores if one.name == POOLED)

    @property
    def alone(self) -> list[ModelScore]:
        """The models that the sites train by themselves."""
        return [one for one in self.reference.scores if one.name.endswith(" alone")]


def play(
    table: Path,
    division: Division,
    strategy: str,
    seed: int,
    options: argparse.Namespace,
    *,
    compares: bool,
) -> SimulationResult:
    """Simulate one run."""
    parameters, training = STRATEGIES[strategy]
    config = RunConfig.model_validate(
        {
            "run": {
                "name": f"run-{seed}",
                "study": "Strategies beside each other",
                "sites": tuple(f"site-{number}" for number in range(NUM_SITES)),
                "rounds": options.rounds,
                "seed": seed,
                "data_origin": "synthetic",
            },
            "training": {"local_epochs": 1, **training},
            "strategy": {"name": strategy.partition(",")[0], **parameters},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        return simulate(
            Simulation(
                config=config,
                cohorts=DividedTable(
                    sources=CohortSources(clinical_table=table),
                    contract="crlm",
                    num_sites=NUM_SITES,
                    split=division.kind,
                    concentration=division.concentration,
                ),
                folder=Path(folder) / "out",
                num_bootstrap=NUM_BOOTSTRAP,
                compares=compares,
            ),
            Watchers(),
        )


def play_all(
    table: Path, division: Division, options: argparse.Namespace
) -> dict[str, list[Compared]]:
    """Simulate every strategy with every seed over one division.

    The pooled model and the sites' own depend on the training, not on the strategy, so
    they are trained once for each training.
    """
    found: dict[str, list[Compared]] = {name: [] for name in options.strategies}
    for seed in SEEDS:
        references: dict[str, SimulationResult] = {}
        for name in options.strategies:
            training = str(STRATEGIES[name][1])
            run = play(
                table,
                division,
                name,
                seed,
                options,
                compares=training not in references,
            )
            reference = references.setdefault(training, run)
            found[name].append(Compared(run, reference))
    return found


def estimate(interval: Interval | None) -> float:
    """Return a figure; NaN where it is not determined."""
    return float("nan") if interval is None else interval.estimate


def concordance(score: ModelScore) -> float:
    """Return a model's Harrell's C."""
    return estimate(score.harrell_c)


def spread(values: Sequence[float]) -> str:
    """Write a mean and, in brackets, the least and the most."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def tell_division(
    results: Mapping[str, Sequence[Compared]], division: Division
) -> Iterator[str]:
    """Yield the table of one way to divide."""
    some = next(iter(results.values()))
    yield f"## {division.name}"
    yield ""
    told = "; ".join(sizes(one.run) for one in some)
    yield f"Patients of the sites, by seed: {told}."
    yield ""
    yield (
        "| model | Harrell's C | integrated Brier score | C minus pooled | within the "
        "pooled interval |"
    )
    yield "|---|---|---|---|---|"
    for name, runs in results.items():
        apart = [concordance(one.own) - concordance(one.pooled) for one in runs]
        reached = sum(reaches([one.own, one.pooled]) is True for one in runs)
        own = [one.own for one in runs]
        yield row(name, own, spread(apart), f"{reached} of {len(runs)}")
    for name, runs in by_training(results).items():
        yield row(f"pooled{name}", [one.pooled for one in runs])
        yield row(f"a site alone{name}", [site for one in runs for site in one.alone])
    for baseline in ("ridge Cox", "Kaplan-Meier"):
        scores = [s for one in some for s in one.run.scores if s.name == baseline]
        yield row(f"{baseline}, pooled", scores)
    yield ""


def by_training(
    results: Mapping[str, Sequence[Compared]],
) -> dict[str, Sequence[Compared]]:
    """Return one strategy's runs for each training, by what the table adds."""
    found: dict[str, Sequence[Compared]] = {}
    for name, runs in results.items():
        found.setdefault(", sgd" if STRATEGIES[name][1] else "", runs)
    return found


def row(
    name: str, scores: Sequence[ModelScore], apart: str = "", reached: str = ""
) -> str:
    """Write a line of the table."""
    brier = spread([estimate(score.integrated_brier) for score in scores])
    own = spread([concordance(score) for score in scores])
    return f"| {name} | {own} | {brier} | {apart} | {reached} |"


def sizes(run: SimulationResult) -> str:
    """Write the sites' patients."""
    return " + ".join(str(site.num_patients) for site in run.sites)


def tell(options: argparse.Namespace) -> Iterator[str]:
    """Yield the page, as it comes about."""
    started = process_time()
    listed = ", ".join(map(str, SEEDS))
    divisions = [one for one in DIVISIONS if one.name in options.splits]
    yield "# Strategies, where sites differ"
    yield ""
    yield "`benchmarks/strategies.py` writes this page."
    yield ""
    yield (
        f"A made-up clinical table of {options.patients} patients without scans, "
        f"{NUM_SITES} pseudo-sites, {options.rounds} rounds of one pass, size tiny, "
        "batches of 8, AdamW at 1e-3, or SGD at 0.03 where it says so; SCAFFOLD's "
        "training is SGD too. A fifth is kept back and judges all. Figures are means "
        f"over seeds {listed}, in brackets the least and the most; a seed decides who "
        "is kept back, the division and the first model. The pooled model and each "
        "site's own take as many steps as in the run; differences are from the pooled "
        "model of the same training, AdamW or SGD. The last column counts the seeds "
        "whose C is not below the pooled model's 95 % interval "
        f"({NUM_BOOTSTRAP} resamples)."
    )
    yield ""
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "table.csv", options.patients)
        for division in divisions:
            yield from tell_division(play_all(table, division, options), division)
    yield f"{process_time() - started:.0f} s of one core."


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [division.name for division in DIVISIONS]
    parser.add_argument("--strategies", nargs="+", default=[*STRATEGIES])
    parser.add_argument("--splits", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    parser.add_argument("--patients", type=int, default=NUM_PATIENTS)
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
