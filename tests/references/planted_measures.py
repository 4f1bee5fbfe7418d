"""How well a network found what was planted in a cohort.

Axes: `patient bin`; maps also `year depth height width`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from references.planted_cohorts import (
    BIN_MONTHS,
    NUM_BINS,
    NUM_COLUMNS,
    PlantedCohort,
)
from references.planted_scans import GRID, liver_mask
from scipy.ndimage import binary_dilation

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.evaluation.baselines import KaplanMeierBaseline, RidgeCox
from acfnet_core.evaluation.discrimination import harrell_c
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet, AcfNetOutput, build_model
from acfnet_core.model.risk_maps import upsample_risk_maps
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.batches import make_batch
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.settings import AugmentationSettings, LocalTrainingSettings

CPU = torch.device("cpu")
BATCH_SIZE = 64
YEAR_ENDS = (1, 5, 9)
"""The bins that end at 1, 3 and 5 years."""
EDGES_MONTHS = BIN_MONTHS * np.arange(1, NUM_BINS + 1)


def planted_config(**changes: object) -> AcfNetConfig:
    """Return the settings of the smallest network on the planted grid."""
    content = {"size": "tiny", "num_clinical_features": NUM_COLUMNS, **changes}
    return AcfNetConfig.model_validate(content)


def fit_network(
    cohort: PreparedCohort,
    config: AcfNetConfig,
    *,
    num_epochs: int,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 16,
    loss: LossConfig | None = None,
    augmentation: AugmentationSettings | None = None,
) -> AcfNet:
    """Train a new network; `seed` decides its start, the order and the dropout."""
    model = build_model(config, seed=seed)
    settings = LocalTrainingSettings(
        local_epochs=num_epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        augmentation=augmentation,
    )
    # Dropout draws from the global state, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in train_locally(
            model, cohort, settings=settings, loss=loss or LossConfig(), seed=seed
        ):
            pass
    return model.eval()


def outputs_of(model: AcfNet, cohort: PreparedCohort) -> Iterator[AcfNetOutput]:
    """Yield the network's outputs batch by batch, in the order of the patients."""
    model.eval()
    num_patients = len(cohort.patients)
    with torch.no_grad():
        for start in range(0, num_patients, BATCH_SIZE):
            indices = range(start, min(start + BATCH_SIZE, num_patients))
            yield model(make_batch(cohort, indices, model.config, CPU).inputs)


def predict_survival(model: AcfNet, cohort: PreparedCohort) -> np.ndarray:
    """Return the predicted survival at the end of each bin `[patient bin]`."""
    parts = [output.survival.numpy() for output in outputs_of(model, cohort)]
    return np.concatenate(parts).astype(np.float64)


def mean_gate(model: AcfNet, cohort: PreparedCohort) -> float:
    """Return the mean share of the image logit over patients and bins."""
    gates = [output.gate.numpy() for output in outputs_of(model, cohort)]
    return float(np.concatenate(gates).mean())


def concordance(planted: PlantedCohort, survival: np.ndarray) -> float:
    """Return Harrell's C of a prediction, its risk being minus the mean survival."""
    value = harrell_c(planted.time_months, planted.event, -survival.mean(axis=1))
    assert value is not None
    return value


def concordance_of(model: AcfNet, planted: PlantedCohort) -> float:
    """Return Harrell's C of a network on a planted cohort."""
    return concordance(planted, predict_survival(model, planted.cohort))


def survival_error(planted: PlantedCohort, survival: np.ndarray) -> float:
    """Return the mean distance from the true survival over all patients and bins."""
    return float(np.abs(survival - planted.true_survival).mean())


def lead_of_column_0(planted: PlantedCohort, survival: np.ndarray) -> np.ndarray:
    """Return by how much the hazard of those above 0 in column 0 is higher `[bin]`.

    It is negative where the others' hazard is the higher one.
    """
    before = np.pad(survival[:, :-1], ((0, 0), (1, 0)), constant_values=1.0)
    hazard = 1 - survival / before
    is_above = planted.columns[:, 0] > 0
    return hazard[is_above].mean(axis=0) - hazard[~is_above].mean(axis=0)


def cox_survival(train: PlantedCohort, fresh: PlantedCohort) -> np.ndarray:
    """Fit ridge Cox on the columns and predict fresh patients `[patient bin]`."""
    known = np.ones_like(train.columns, dtype=np.bool_)
    cox = RidgeCox.fit(train.columns, known, train.time_months, train.event)
    known = np.ones_like(fresh.columns, dtype=np.bool_)
    return cox.predict_survival(fresh.columns, known, EDGES_MONTHS)


def kaplan_meier_survival(train: PlantedCohort, fresh: PlantedCohort) -> np.ndarray:
    """Predict everybody the training patients' curve `[patient bin]`."""
    baseline = KaplanMeierBaseline.fit(train.time_months, train.event)
    return baseline.predict_survival(len(fresh.event), EDGES_MONTHS)


def single_scan_ceiling(planted: PlantedCohort) -> float:
    """Return the best C that the lesion's size at one scan can give, first or last."""
    last_grew, first_shrank = (
        harrell_c(planted.time_months, planted.event, risk.astype(np.float64))
        for risk in (planted.sizes[:, -1], -planted.sizes[:, 0])
    )
    assert last_grew is not None
    assert first_shrank is not None
    return max(last_grew, first_shrank)


def calibration_slope(survival: np.ndarray, true_survival: np.ndarray) -> float:
    """Return the mean slope, at 1, 3 and 5 years, of the true log(-log S); 1 is right.

    It is that of a line over the patients against the predicted log(-log S). Below 1
    the predictions are too far apart, above 1 too close together.
    """
    slopes = []
    for end in YEAR_ENDS:
        predicted, true = (
            np.log(-np.log(curves[:, end])) for curves in (survival, true_survival)
        )
        slopes.append(np.polyfit(predicted, true, 1)[0])
    return float(np.mean(slopes))


@dataclass(frozen=True, kw_only=True)
class PointingScore:
    """How often the strongest place of a map lies on a lesion.

    Attributes:
        num_patients: Patients who have a driving lesion.
        driver: Share of them whose strongest place is on it.
        decoy: Share of them whose strongest place is on the other lesion.
        chance: The same share for a place drawn from the liver.
    """

    num_patients: int
    driver: float
    decoy: float
    chance: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `driver` (Wilson 1927, J Am Stat Assoc 22:209)."""
        n, z = self.num_patients, 1.96
        centre = (self.driver + z**2 / (2 * n)) / (1 + z**2 / n)
        spread = self.driver * (1 - self.driver) / n + z**2 / (4 * n**2)
        half = z / (1 + z**2 / n) * float(np.sqrt(spread))
        return centre - half, centre + half


def pointing_game(model: AcfNet, planted: PlantedCohort) -> PointingScore:
    """Play the pointing game with maps on the scans' grid.

    A hit is the largest absolute value, in the year of the largest image logit, within
    half a cell of the risk map of the lesion.

    Source: Zhang et al. 2018, Int J Comput Vis 126:1084, section 4.2; the tolerance in
    cells is ours.
    """
    places = np.concatenate([_strongest(o) for o in outputs_of(model, planted.cohort)])
    has_driver = planted.driver.any(axis=(1, 2, 3))
    liver = liver_mask()
    hits, decoys, chances = [], [], []
    for index in np.flatnonzero(has_driver):
        target = _with_tolerance(planted.driver[index], model.config)
        other = _with_tolerance(planted.decoy[index], model.config)
        hits.append(target[tuple(places[index])])
        decoys.append(other[tuple(places[index])])
        chances.append(target[liver].mean())
    return PointingScore(
        num_patients=int(has_driver.sum()),
        driver=float(np.mean(hits)),
        decoy=float(np.mean(decoys)),
        chance=float(np.mean(chances)),
    )


def _strongest(output: AcfNetOutput) -> np.ndarray:
    """Return the voxel of each patient's largest attribution `[patient axis]`."""
    year = output.image_year_logits.argmax(dim=1)
    maps = upsample_risk_maps(output.risk_maps, GRID)
    chosen = maps[torch.arange(len(maps)), year].abs().flatten(1).argmax(dim=1)
    return np.stack(np.unravel_index(chosen.numpy(), GRID), axis=1)


def _with_tolerance(lesion: np.ndarray, config: AcfNetConfig) -> np.ndarray:
    """Widen a lesion by half a cell of the risk map on each side."""
    box = np.ones([step + 1 for step in config.reduction], np.bool_)
    return binary_dilation(lesion, box)
