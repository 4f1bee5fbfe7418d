"""Prepared stores of patients whose hazards are known, written straight from arrays.

Each design says of what the hazard is made: of columns, of a bright lesion, of how a
lesion changed between two scans. Hazards are constant within a half-year, so the true
survival at the end of each is known exactly.

Axes: `patient bin depth height width`.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from references.planted_scans import (
    BRIGHT_HU,
    DARK_HU,
    GRID,
    SCAN_MONTHS,
    SIZES_MM,
    SPACING_MM,
    PlantedScan,
    draw_ball,
    draw_scan,
    place_lesion,
    place_two_lesions,
)
from safetensors.numpy import save

from acfnet_core.cohort.contract import (
    CHANNELS,
    ClinicalColumn,
    DataContract,
    Endpoint,
    ImagingExpectations,
)
from acfnet_core.cohort.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    PatientRecord,
    ScanRecord,
)
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store

NUM_COLUMNS = 4
NUM_BINS = 16
BIN_MONTHS = 6.0
FOLLOW_UP_MONTHS = 96.0
BASE_RATE = 0.02
"""Events a month at a log hazard ratio of 0: half of them within three years."""


@dataclass(frozen=True, kw_only=True)
class PlantedCohort:
    """A prepared store, and what nobody knows of real patients.

    Attributes:
        rate: True hazard per month `[patient bin]`.
        driver: The lesion that drives the hazard `[patient depth height width]`; empty
            for who has none.
        decoy: The lesion beside it that does not.
        sizes: Of the lesion at each scan, as an index of `SIZES_MM` `[patient scan]`,
            where the sizes matter.
    """

    cohort: PreparedCohort
    rate: np.ndarray
    driver: np.ndarray
    decoy: np.ndarray
    sizes: np.ndarray

    @property
    def true_survival(self) -> np.ndarray:
        """Probability of no event by the right edge of each bin `[patient bin]`."""
        return np.exp(-BIN_MONTHS * np.cumsum(self.rate, axis=1))

    @property
    def columns(self) -> np.ndarray:
        """The clinical columns `[patient column]`."""
        return np.stack([p.clinical for p in self.cohort.patients]).astype(np.float64)

    @property
    def time_months(self) -> np.ndarray:
        """Observed times `[patient]`."""
        return np.array([p.time_months for p in self.cohort.patients])

    @property
    def event(self) -> np.ndarray:
        """Whether the event was seen `[patient]`."""
        return np.array([p.event == 1 for p in self.cohort.patients])

    def part(self, chosen: slice) -> "PlantedCohort":
        """Return some of the patients."""
        return PlantedCohort(
            cohort=replace(self.cohort, patients=self.cohort.patients[chosen]),
            rate=self.rate[chosen],
            driver=self.driver[chosen],
            decoy=self.decoy[chosen],
            sizes=self.sizes[chosen],
        )

    def permuted(self, *, seed: int) -> "PlantedCohort":
        """Return the same patients with their outcomes handed round at random."""
        patients = self.cohort.patients
        order = np.random.default_rng(seed).permutation(len(patients))
        given = tuple(
            replace(
                patient,
                time_months=patients[other].time_months,
                event=patients[other].event,
            )
            for patient, other in zip(patients, order, strict=True)
        )
        return replace(self, cohort=replace(self.cohort, patients=given))


def planted_contract() -> DataContract:
    """Return a contract of `NUM_COLUMNS` numbers and scans on a coarse grid."""
    names = tuple(f"column-{index}" for index in range(NUM_COLUMNS))
    feature = ClinicalColumn(type="number", known="before_surgery", meaning="Made up")
    return DataContract(
        name="planted",
        version=1,
        description="Patients whose hazards are known",
        patient_id_column="patient",
        features=names,
        endpoint=Endpoint(
            name="event", meaning="Made up", time_column="months", event_column="seen"
        ),
        imaging=ImagingExpectations(
            grid_shape=GRID,
            grid_spacing_mm=SPACING_MM,
            window_centre_hu=95.0,
            window_width_hu=30.0,
            window_clip=3.0,
            segments={"liver": ("Liver",), "tumour": ("Tumour",)},
            earliest_months=-24.0,
            latest_months=0.0,
        ),
        columns={
            "patient": ClinicalColumn(
                type="identifier", known="identifier", meaning="Made up"
            ),
            **dict.fromkeys(names, feature),
            "months": ClinicalColumn(
                type="number", known="outcome", meaning="Made up", minimum=0
            ),
            "seen": ClinicalColumn(type="binary", known="outcome", meaning="Made up"),
        },
    )


def plant_proportional(folder: Path, num_patients: int, *, seed: int) -> PlantedCohort:
    """Let two columns multiply one hazard, at all times alike; no scans."""
    generator = np.random.default_rng(seed)
    columns = generator.normal(size=(num_patients, NUM_COLUMNS))
    log_ratio = 0.8 * columns[:, 0] - 0.5 * columns[:, 1]
    rate = np.repeat(BASE_RATE * np.exp(log_ratio)[:, None], NUM_BINS, axis=1)
    return _write(folder, columns, rate, [()] * num_patients, generator)


def plant_crossing(folder: Path, num_patients: int, *, seed: int) -> PlantedCohort:
    """Give those with column 0 at 1 a high hazard for two years and a low one after.

    The others have them the other way round; the hazards cross at 24 months.
    """
    generator = np.random.default_rng(seed)
    columns = generator.normal(size=(num_patients, NUM_COLUMNS))
    columns[:, 0] = generator.choice([-1.0, 1.0], num_patients)
    early = np.arange(NUM_BINS) * BIN_MONTHS < 24.0
    is_high = (columns[:, :1] > 0) == early
    rate = np.where(is_high, 0.045, 0.009)
    return _write(folder, columns, rate, [()] * num_patients, generator)


def plant_bright(
    folder: Path,
    num_patients: int,
    *,
    seed: int,
    image_effect: float,
    column_effect: float,
) -> PlantedCohort:
    """Give half of the patients a bright lesion beside a dark one, the rest two dark.

    Args:
        folder: Where the store is written.
        num_patients: How many.
        seed: Decides everything about them.
        image_effect: Log hazard ratio of a bright lesion against none.
        column_effect: Log hazard ratio of one unit of column 0.
    """
    generator = np.random.default_rng(seed)
    columns = generator.normal(size=(num_patients, NUM_COLUMNS))
    is_bright = generator.random(num_patients) < 0.5
    log_ratio = image_effect * (is_bright - 0.5) + column_effect * columns[:, 0]
    rate = np.repeat(BASE_RATE * np.exp(log_ratio)[:, None], NUM_BINS, axis=1)
    scans, driver, decoy = [], [], []
    for bright in is_bright:
        first, second = place_two_lesions(generator)
        lesions = [(first, BRIGHT_HU if bright else DARK_HU), (second, DARK_HU)]
        scans.append((draw_scan(SCAN_MONTHS[-1], lesions, generator),))
        driver.append(first if bright else np.zeros_like(first))
        decoy.append(second)
    return _write(
        folder,
        columns,
        rate,
        scans,
        generator,
        driver=np.stack(driver),
        decoy=np.stack(decoy),
    )


def plant_growth(
    folder: Path,
    num_patients: int,
    *,
    seed: int,
    image_effect: float,
    column_effect: float = 0.0,
) -> PlantedCohort:
    """Let the hazard hang on how much a lesion grew between two scans.

    Its size at each scan is one of three, drawn independently. Of such a cause no
    design can hide all from a single scan: a lesion that is small at last has not
    grown. What one scan can tell at most is C of the true order by its size.

    Args:
        folder: Where the store is written.
        num_patients: How many.
        seed: Decides everything about them.
        image_effect: Log hazard ratio of the most growth against the most shrinkage.
        column_effect: Log hazard ratio of one unit of column 0.
    """
    generator = np.random.default_rng(seed)
    sizes = generator.integers(0, len(SIZES_MM), (num_patients, 2))
    growth = (sizes[:, 1] - sizes[:, 0]) / (len(SIZES_MM) - 1)
    return _plant_serial(
        folder, sizes, image_effect / 2 * growth, column_effect, generator
    )


def plant_cycle(
    folder: Path, num_patients: int, *, seed: int, image_effect: float
) -> PlantedCohort:
    """Let the hazard hang on a change of size of which one scan tells nothing at all.

    A step on in the circle small, middle, large, small multiplies the hazard by
    `exp(image_effect / 2)`, a step back divides it by that. At each scan all sizes are
    equally frequent for both kinds of steps, and the scans in the other order say the
    contrary.
    """
    generator = np.random.default_rng(seed)
    first = generator.integers(0, len(SIZES_MM), num_patients)
    step = generator.choice([-1, 1], num_patients)
    sizes = np.stack([first, (first + step) % len(SIZES_MM)], axis=1)
    return _plant_serial(folder, sizes, image_effect / 2 * step, 0.0, generator)


def with_scan_times(
    cohort: PreparedCohort, *, kept: slice = slice(None), swapped: bool = False
) -> PreparedCohort:
    """Return the cohort with some of each patient's scans, or with their times swapped.

    Args:
        cohort: The cohort.
        kept: Which scans, in order of time.
        swapped: Whether the first scan is dated as the last, and the other way round.
    """
    patients = []
    for patient in cohort.patients:
        scans = patient.scans[kept]
        if swapped:
            times = [scan.time_months for scan in scans]
            scans = tuple(
                scan.model_copy(update={"time_months": time})
                for scan, time in zip(scans[::-1], times, strict=True)
            )
        patients.append(replace(patient, scans=scans))
    return replace(cohort, patients=tuple(patients))


def _plant_serial(
    folder: Path,
    sizes: np.ndarray,
    log_ratio: np.ndarray,
    column_effect: float,
    generator: np.random.Generator,
) -> PlantedCohort:
    """Draw a lesion at one place of these sizes (index of `SIZES_MM`) at two scans."""
    columns = generator.normal(size=(len(sizes), NUM_COLUMNS))
    log_ratio = log_ratio + column_effect * columns[:, 0]
    rate = np.repeat(BASE_RATE * np.exp(log_ratio)[:, None], NUM_BINS, axis=1)
    scans = []
    for own in sizes:
        centre = place_lesion(generator, max(SIZES_MM))
        lesions = [(draw_ball(centre, SIZES_MM[size]), DARK_HU) for size in own]
        scans.append(
            tuple(
                draw_scan(time, [lesion], generator)
                for time, lesion in zip(SCAN_MONTHS, lesions, strict=True)
            )
        )
    return _write(folder, columns, rate, scans, generator, sizes=sizes)


def _write(
    folder: Path,
    columns: np.ndarray,
    rate: np.ndarray,
    scans: Sequence[tuple[PlantedScan, ...]],
    generator: np.random.Generator,
    *,
    driver: np.ndarray | None = None,
    decoy: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> PlantedCohort:
    """Draw the outcomes, write the store, and open it as any other."""
    time_months, event = _draw_outcomes(rate, generator)
    records = []
    for index, own in enumerate(scans):
        pseudonym = base64.b32encode(index.to_bytes(5, "big")).decode().lower()
        records.append(
            PatientRecord(
                pseudonym=pseudonym,
                clinical=tuple(columns[index].tolist()),
                clinical_mask=(True,) * NUM_COLUMNS,
                time_months=float(time_months[index]),
                event=int(event[index]),
                fong_score=None,
                scans=tuple(_write_scan(folder, pseudonym, scan) for scan in own),
            )
        )
    contract = planted_contract()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        contract_name=contract.name,
        contract_sha256=contract.sha256(),
        num_without_outcome=0,
        refused={},
        patients=tuple(records),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    none = np.zeros((len(records), *GRID), np.bool_)
    return PlantedCohort(
        cohort=open_store(folder, contract=contract),
        rate=rate,
        driver=none if driver is None else driver,
        decoy=none if decoy is None else decoy,
        sizes=np.zeros((len(records), 0), np.int64) if sizes is None else sizes,
    )


def _write_scan(folder: Path, pseudonym: str, scan: PlantedScan) -> ScanRecord:
    content = save({"ct_hu": scan.ct_hu, "labels": scan.labels})
    digest = hashlib.sha256(content).hexdigest()
    file = f"scans/{pseudonym}/{digest[:40]}.safetensors"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    return ScanRecord(
        file=file,
        sha256=digest,
        time_months=scan.time_months,
        time_assumed=False,
        channel_mask=tuple(channel != "vessel" for channel in CHANNELS),
    )


def _draw_outcomes(
    rate: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw event times from the hazards; follow-up ends at random, at most 8 years."""
    edges = BIN_MONTHS * np.arange(NUM_BINS + 1)
    cumulative = np.pad(np.cumsum(BIN_MONTHS * rate, axis=1), ((0, 0), (1, 0)))
    threshold = generator.exponential(size=len(rate))
    failure = np.array(
        [
            np.interp(limit, own, edges, right=np.inf)
            for limit, own in zip(threshold, cumulative, strict=True)
        ]
    )
    dropout = generator.uniform(24.0, 144.0, len(rate))
    end = np.minimum(dropout, FOLLOW_UP_MONTHS)
    return np.minimum(failure, end), failure <= end
