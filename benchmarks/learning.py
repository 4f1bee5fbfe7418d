"""Does the network learn what it claims? Cohorts whose hazards are known.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/learning.py --write PAGE

Every cohort is made up by `tests/references/planted_cohorts.py`, stored as a site's is,
and trained on by `train_locally`; every figure is of fresh patients. With `--only` one
experiment is run. The whole takes about a quarter of an hour of one core.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from references.planted_cohorts import (
    PlantedCohort,
    plant_bright,
    plant_crossing,
    plant_cycle,
    plant_growth,
    plant_proportional,
    with_scan_times,
)
from references.planted_measures import (
    EDGES_MONTHS,
    YEAR_ENDS,
    PointingScore,
    calibration_slope,
    concordance,
    concordance_of,
    cox_survival,
    fit_network,
    kaplan_meier_survival,
    lead_of_column_0,
    mean_gate,
    planted_config,
    pointing_game,
    predict_survival,
    single_scan_ceiling,
    survival_error,
)

from acfnet_core.evaluation.brier import brier_window, patient_integrated_brier
from acfnet_core.evaluation.kaplan_meier import estimate_censoring
from acfnet_core.evaluation.survival_curve import interpolate_survival
from acfnet_core.model.ablations import ABLATIONS, ablated_config
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet, build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.reproducibility import make_deterministic
from acfnet_core.training.settings import AugmentationSettings

SEEDS = (0, 1, 2)
FRESH_SEED = 100
NUM_PERMUTATIONS = 6
NUM_TRAIN, NUM_FRESH = 400, 500
TABLE_EPOCHS, IMAGE_EPOCHS, CHANGE_EPOCHS = 20, 15, 25
CROSSING_BIN = 4
AUGMENTATIONS = {
    "as they are": None,
    "brightness alone": AugmentationSettings(
        rotation_degrees=0.0, scale_share=0.0, shift_mm=0.0
    ),
    "as `[training.augmentation]` has it": AugmentationSettings(),
}

Plant = Callable[..., PlantedCohort]
Experiment = Callable[[Path], Iterator[str]]


def plant_pair(
    plant: Plant, folder: Path, seed: int, num_train: int, num_fresh: int
) -> tuple[PlantedCohort, PlantedCohort]:
    """Return patients to train on and fresh ones."""
    return (
        plant(folder / f"train-{seed}", num_train, seed=seed),
        plant(folder / f"fresh-{seed}", num_fresh, seed=FRESH_SEED + seed),
    )


def spread(values: Sequence[float]) -> str:
    """Write a mean and, in brackets, the least and the most."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a markdown table."""
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def tell_calibration(folder: Path) -> Iterator[str]:
    """Compare predicted with true survival under proportional hazards."""
    errors: dict[str, list[list[float]]] = {}
    slopes: dict[str, list[float]] = {}
    for seed in SEEDS:
        train, fresh = plant_pair(plant_proportional, folder, seed, 600, 2000)
        config = planted_config()
        model = fit_network(train.cohort, config, num_epochs=TABLE_EPOCHS, seed=seed)
        untrained = build_model(config, seed=seed)
        for name, survival in {
            "4D-ACFNet": predict_survival(model, fresh.cohort),
            "untrained": predict_survival(untrained, fresh.cohort),
            "Kaplan-Meier": kaplan_meier_survival(train, fresh),
            "ridge Cox (the true form)": cox_survival(train, fresh),
        }.items():
            apart = np.abs(survival - fresh.true_survival).mean(axis=0)
            errors.setdefault(name, []).append([apart[end] for end in YEAR_ENDS])
            # Of curves that hardly differ between patients there is no slope to tell.
            if name not in ("Kaplan-Meier", "untrained"):
                slope = calibration_slope(survival, fresh.true_survival)
                slopes.setdefault(name, []).append(slope)
    yield f"600 patients, {TABLE_EPOCHS} passes, judged on 2000."
    yield ""
    yield from table(
        ["model", "error at 1 year", "3 years", "5 years", "calibration slope"],
        [
            [
                name,
                *(spread(list(year)) for year in zip(*apart, strict=True)),
                spread(slopes[name]) if name in slopes else "-",
            ]
            for name, apart in errors.items()
        ],
    )


def tell_crossing(folder: Path) -> Iterator[str]:
    """Say where hazards cross that do so at 24 months."""
    found: dict[str, list[tuple[float, float]]] = {"4D-ACFNet": [], "ridge Cox": []}
    is_early = np.arange(len(EDGES_MONTHS)) < CROSSING_BIN
    for seed in SEEDS:
        train, fresh = plant_pair(plant_crossing, folder, seed, 600, 500)
        model = fit_network(
            train.cohort, planted_config(), num_epochs=TABLE_EPOCHS, seed=seed
        )
        for name, survival in {
            "4D-ACFNet": predict_survival(model, fresh.cohort),
            "ridge Cox": cox_survival(train, fresh),
        }.items():
            wrong = (lead_of_column_0(fresh, survival) > 0) != is_early
            found[name].append((survival_error(fresh, survival), float(wrong.sum())))
    yield f"600 patients, {TABLE_EPOCHS} passes, judged on 500."
    yield ""
    yield from table(
        ["model", "error of the survival", "half-years of 16 with the wrong order"],
        [
            [name, *(spread(list(values)) for values in zip(*own, strict=True))]
            for name, own in found.items()
        ],
    )


def tell_change(folder: Path) -> Iterator[str]:
    """Say what the second scan adds where a change is the cause."""
    rows = [
        _change_row("growth", partial(plant_growth, image_effect=4.0), folder),
        _change_row(
            "a circle of sizes", partial(plant_cycle, image_effect=3.0), folder
        ),
    ]
    yield f"C; {NUM_TRAIN} patients, {CHANGE_EPOCHS} passes, judged on {NUM_FRESH}."
    yield "`trained on the last` is another network, which never saw the first scan."
    yield ""
    yield from table(
        [
            "cause",
            "both scans",
            "of at most",
            "best of one scan's size",
            "trained on the last",
            "last scan alone",
            "times swapped",
        ],
        rows,
    )


def _change_row(name: str, plant: Plant, folder: Path) -> list[str]:
    found: list[list[float]] = []
    for seed in SEEDS:
        train, fresh = plant_pair(plant, folder / name, seed, NUM_TRAIN, NUM_FRESH)
        config = planted_config()
        fit = partial(fit_network, config=config, num_epochs=CHANGE_EPOCHS, seed=seed)
        both = fit(train.cohort)
        only_last = fit(with_scan_times(train.cohort, kept=slice(-1, None)))
        last = with_scan_times(fresh.cohort, kept=slice(-1, None))
        swapped = with_scan_times(fresh.cohort, swapped=True)
        found.append(
            [
                concordance_of(both, fresh),
                concordance(fresh, fresh.true_survival),
                single_scan_ceiling(fresh),
                concordance(fresh, predict_survival(only_last, last)),
                concordance(fresh, predict_survival(both, last)),
                concordance(fresh, predict_survival(both, swapped)),
            ]
        )
    return [name, *(spread(list(values)) for values in zip(*found, strict=True))]


def tell_gate_and_maps(folder: Path) -> Iterator[str]:
    """Say where the gate goes and where the maps point."""
    image = partial(plant_bright, image_effect=3.0, column_effect=0.0)
    columns = partial(plant_bright, image_effect=0.0, column_effect=1.0)
    gates, points = [], []
    for name, plant in (("the image", image), ("the columns", columns)):
        fits = [_fit_fresh(plant, folder / name, seed) for seed in SEEDS]
        gates.append(_gate_row(name, fits))
        points += [
            _pointing_row(f"{name}, seed {seed}", pointing_game(model, fresh))
            for seed, (model, fresh) in zip(SEEDS, fits, strict=True)
        ]
    growth = partial(plant_growth, image_effect=4.0)
    fits = [
        _fit_fresh(growth, folder / "growth", seed, num_epochs=CHANGE_EPOCHS)
        for seed in SEEDS
    ]
    gates.append(_gate_row("a growth in the images", fits))
    fresh = image(folder / "untrained", NUM_FRESH, seed=FRESH_SEED)
    untrained = pointing_game(build_model(planted_config(), seed=0), fresh)
    points.append(_pointing_row("untrained", untrained))
    model, fresh = _fit_fresh(image, folder / "fine", 0, reduction=(4, 4, 4))
    points.append(_pointing_row("the image, finer map", pointing_game(model, fresh)))
    yield f"{NUM_TRAIN} patients, {IMAGE_EPOCHS} passes ({CHANGE_EPOCHS} for growth),"
    yield f"judged on {NUM_FRESH}; the"
    yield "gate starts at 0.5, is 1 for the image alone and 0 for the columns alone."
    yield ""
    yield from table(["only this informs", "C", "mean gate"], gates)
    yield (
        "The pointing game, for fresh patients with a bright lesion. A network that "
        "had nothing to learn from the images may point at it too, since it is the "
        "most conspicuous place: that a map points somewhere does not show that it "
        "matters."
    )
    yield ""
    yield from table(
        ["only this informs", "n", "on the driver (95 %)", "on the other", "chance"],
        points,
    )


def _fit_fresh(
    plant: Plant,
    folder: Path,
    seed: int,
    *,
    num_epochs: int = IMAGE_EPOCHS,
    **changes: object,
) -> tuple[AcfNet, PlantedCohort]:
    """Return a trained network and patients fresh to it."""
    train, fresh = plant_pair(plant, folder, seed, NUM_TRAIN, NUM_FRESH)
    config = planted_config(**changes)
    model = fit_network(train.cohort, config, num_epochs=num_epochs, seed=seed)
    return model, fresh


def _gate_row(name: str, fits: Sequence[tuple[AcfNet, PlantedCohort]]) -> list[str]:
    return [
        name,
        spread([concordance_of(model, fresh) for model, fresh in fits]),
        spread([mean_gate(model, fresh.cohort) for model, fresh in fits]),
    ]


def _pointing_row(name: str, score: PointingScore) -> list[str]:
    low, high = score.interval
    return [
        name,
        str(score.num_patients),
        f"{score.driver:.3f} ({low:.3f} to {high:.3f})",
        f"{score.decoy:.3f}",
        f"{score.chance:.3f}",
    ]


def tell_permuted(folder: Path) -> Iterator[str]:
    """Say what is found where there is nothing to find."""
    values = []
    for seed in range(NUM_PERMUTATIONS):
        planted = plant_bright(
            folder / f"{seed}", 1000, seed=seed, image_effect=3.0, column_effect=1.0
        ).permuted(seed=seed)
        train, fresh = planted.part(slice(0, 300)), planted.part(slice(300, None))
        model = fit_network(
            train.cohort, planted_config(), num_epochs=IMAGE_EPOCHS, seed=seed
        )
        values.append(concordance_of(model, fresh))
    half = 2.571 * np.std(values, ddof=1) / np.sqrt(NUM_PERMUTATIONS)
    yield (
        f"Outcomes permuted among 1000 patients, 300 to train on, {NUM_PERMUTATIONS} "
        f"times: C of the other 700 is {np.mean(values):.3f}, 95 % interval of the "
        f"mean {np.mean(values) - half:.3f} to {np.mean(values) + half:.3f}."
    )
    yield ""


def tell_ablations(folder: Path) -> Iterator[str]:
    """Compare the whole network with itself less one idea."""
    plant = partial(plant_growth, image_effect=4.0, column_effect=1.0)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ABLATIONS}
    for seed in SEEDS:
        train, fresh = plant_pair(plant, folder, seed, NUM_TRAIN, NUM_FRESH)
        for name, ablation in ABLATIONS.items():
            found[name].append(
                _judge_ablation(
                    ablated_config(planted_config(), name),
                    ablation.loss,
                    seed,
                    train,
                    fresh,
                )
            )
    yield f"Growth and a column matter; {NUM_TRAIN} patients, {CHANGE_EPOCHS} passes,"
    yield f"judged on {NUM_FRESH}."
    yield ""
    yield from table(
        ["less", "C", "IBS"],
        [
            [name, spread([c for c, _ in own]), spread([ibs for _, ibs in own])]
            for name, own in found.items()
        ],
    )


def tell_augmentation(folder: Path) -> Iterator[str]:
    """Train with scans that are turned, stretched and shifted a little."""
    plant = partial(plant_growth, image_effect=4.0)
    found: dict[str, dict[str, list[float]]] = {}
    for count in (NUM_TRAIN // 4, NUM_TRAIN):
        for seed in SEEDS:
            place = folder / str(count)
            train, fresh = plant_pair(plant, place, seed, count, NUM_FRESH)
            # As many steps for few patients as for many.
            epochs = CHANGE_EPOCHS * NUM_TRAIN // count
            for name, settings in AUGMENTATIONS.items():
                model = fit_network(
                    train.cohort,
                    planted_config(),
                    num_epochs=epochs,
                    seed=seed,
                    augmentation=settings,
                )
                row = found.setdefault(name, {})
                row.setdefault(str(count), []).append(concordance_of(model, fresh))
    yield f"Growth alone matters; as many steps as {NUM_TRAIN} patients have in"
    yield f"{CHANGE_EPOCHS} passes, judged on {NUM_FRESH}."
    yield ""
    counts = list(next(iter(found.values())))
    yield from table(
        ["scans in training", *(f"C with {count} patients" for count in counts)],
        [[name, *map(spread, row.values())] for name, row in found.items()],
    )


def _judge_ablation(
    config: AcfNetConfig,
    weights: Mapping[str, float],
    seed: int,
    train: PlantedCohort,
    fresh: PlantedCohort,
) -> tuple[float, float]:
    """Train one ablation; return C and integrated Brier score of fresh patients."""
    model = fit_network(
        train.cohort,
        config,
        num_epochs=CHANGE_EPOCHS,
        seed=seed,
        loss=LossConfig.model_validate(weights),
    )
    survival = predict_survival(model, fresh.cohort)
    months = brier_window(90.0)
    scores = patient_integrated_brier(
        fresh.time_months,
        fresh.event,
        interpolate_survival(survival, EDGES_MONTHS, months),
        months,
        censoring=estimate_censoring(train.time_months, train.event),
    )
    return concordance(fresh, survival), float(scores.mean())


EXPERIMENTS: dict[str, tuple[str, Experiment]] = {
    "calibration": ("Calibrated survival", tell_calibration),
    "crossing": ("Hazards that cross at 24 months", tell_crossing),
    "change": ("A change between two scans", tell_change),
    "gate": ("The gate and the maps", tell_gate_and_maps),
    "permuted": ("Nothing to find", tell_permuted),
    "ablations": ("The network less one idea", tell_ablations),
    "augmentation": ("Scans changed while training", tell_augmentation),
}


def tell(names: Sequence[str]) -> Iterator[str]:
    """Yield the page line by line, as it is found."""
    config = planted_config()
    yield "# Does the network learn what it claims?"
    yield ""
    yield "`make learn` writes this page."
    yield ""
    yield "Made-up patients whose hazards are known, on a grid of 8 x 32 x 32 voxels;"
    yield f"size `{config.size}`, learning rate 0.001 with the schedule as shipped,"
    yield f"batches of 16. Figures are means over seeds {SEEDS[0]} to {SEEDS[-1]}, in"
    yield "brackets the least and the most; C is Harrell's."
    yield ""
    for name in names:
        title, experiment = EXPERIMENTS[name]
        yield f"## {title}"
        yield ""
        with tempfile.TemporaryDirectory() as folder:
            yield from experiment(Path(folder))


def main() -> None:
    """Run the experiments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", choices=EXPERIMENTS, help="run one experiment")
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    make_deterministic(num_threads=1)
    torch.set_num_interop_threads(1)
    lines = []
    for line in tell([options.only] if options.only else list(EXPERIMENTS)):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        options.write.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
