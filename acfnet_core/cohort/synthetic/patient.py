"""A made-up patient: latent traits, the outcome they cause and the row of the table.

Four independent standard normal traits drive everything. `burden` and `texture` can be
seen in the images, `clinical` in the table, `response` in the change between scans; all
four raise or lower the hazard of recurrence. The table has the public cohort's columns,
so it also has columns that must never become features: what the pathologist finds in
the specimen knows more of `response` than any scan does.
"""

import datetime
import hashlib
import math
from dataclasses import dataclass

import numpy as np

from acfnet_core.cohort.synthetic.anatomy import (
    LiverShape,
    Tumour,
    draw_liver,
    draw_tumours,
)
from acfnet_core.cohort.synthetic.table import Cell, Course, describe_patient
from acfnet_core.time_units import DAYS_PER_MONTH

SCAN_MONTHS_BEFORE = (12.0, 6.0, 0.5)
NUM_SCANS_PROBABILITIES = (0.25, 0.35, 0.40)
"""How likely a patient was meant to have one, two or three scans."""

RECURRENCE_SCALE_MONTHS = 44.0
RECURRENCE_SHAPE = 0.95
FOLLOW_UP_MONTHS = (30.0, 132.0)
FIRST_RESECTION = datetime.date(1991, 6, 1)

STREAM_TABLE = 0
STREAM_TEXTURE = 1
STREAM_SCAN = 2
"""What a generator of `patient_rng` is for; a scan adds its number to the last one."""


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The four traits of a patient, each standard normal and independent."""

    burden: float
    texture: float
    clinical: float
    response: float


LOADINGS = Latents(burden=0.88, texture=0.70, clinical=0.66, response=-0.50)
"""Weights of the traits in the log hazard of recurrence."""


@dataclass(frozen=True, kw_only=True)
class PlannedScan:
    """One CT of a patient: when it was made and how large the tumours were then."""

    index: int
    study_date: datetime.date
    diameter_factor: float


@dataclass(frozen=True, kw_only=True)
class SyntheticPatient:
    """Everything about a made-up patient but the voxels."""

    site_name: str
    index: int
    seed: int
    latents: Latents
    liver: LiverShape
    tumours: tuple[Tumour, ...]
    scans: tuple[PlannedScan, ...]
    row: dict[str, Cell]

    @property
    def patient_id(self) -> str:
        """The identifier in the table and in the images."""
        return str(self.row["Patient-ID"])

    @property
    def age(self) -> int:
        """The age in years, as in the table."""
        return int(str(self.row["age"]))

    @property
    def is_female(self) -> bool:
        """The sex, as in the table."""
        return self.row["sex"] == 2

    @property
    def body_mass_index(self) -> float:
        """The body mass index in kg/m2, as in the table."""
        return float(str(self.row["body_mass_index"]))


def patient_rng(
    site_name: str, index: int, *, seed: int, stream: int
) -> np.random.Generator:
    """Return the generator of one purpose for one patient.

    It depends on nothing but its arguments, so patients may be made in any order and
    by any number of processes.
    """
    name_words = np.frombuffer(hashlib.sha256(site_name.encode()).digest(), "<u4")
    entropy = [seed, *map(int, name_words[:4]), index, stream]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def log_hazard(latents: Latents) -> float:
    """Return the true log hazard of recurrence, up to a constant."""
    return (
        LOADINGS.burden * latents.burden
        + LOADINGS.texture * latents.texture
        + LOADINGS.clinical * latents.clinical
        + LOADINGS.response * latents.response
    )


def draw_patient(
    site_name: str,
    index: int,
    *,
    seed: int,
    scans_missing_probability: float,
    has_digits_for_id: bool = False,
) -> SyntheticPatient:
    """Draw patient number `index` (from 1) of a site.

    The name of the site is part of the patient's identifier and of the generator's
    seed; each planned scan is missing with `scans_missing_probability`. An identifier
    of digits begins with zeros, which a reader of numbers loses.
    """
    rng = patient_rng(site_name, index, seed=seed, stream=STREAM_TABLE)
    latents = Latents(**_draw_traits(rng))
    liver = draw_liver(rng, remnant_fraction=float(rng.uniform(0.30, 0.92)))
    tumours = draw_tumours(rng, liver, burden=latents.burden)
    resection = FIRST_RESECTION + datetime.timedelta(days=int(rng.integers(0, 1400)))
    row = describe_patient(
        rng,
        patient_id=(
            make_numeric_id(site_name, index)
            if has_digits_for_id
            else make_patient_id(site_name, index)
        ),
        index=index,
        clinical=latents.clinical,
        response=latents.response,
        tumours=tumours,
        course=draw_course(rng, latents),
        resection=resection,
    )
    return SyntheticPatient(
        site_name=site_name,
        index=index,
        seed=seed,
        latents=latents,
        liver=liver,
        tumours=tumours,
        row=row,
        scans=_plan_scans(
            rng,
            resection,
            response=latents.response,
            has_chemo=row["chemo_before_liver_resection"] == 1,
            missing_probability=scans_missing_probability,
        ),
    )


def make_patient_id(site_name: str, index: int) -> str:
    """Return an identifier that no other site has, such as CRLM-SYN-A0001."""
    return f"CRLM-SYN-{site_name.removeprefix('hospital-').upper()}{index:04d}"


def make_numeric_id(site_name: str, index: int) -> str:
    """Return an identifier of ten digits, the first ones 0, such as 0041370002."""
    number = int.from_bytes(hashlib.sha256(site_name.encode()).digest()[:2])
    return f"{number:06d}{index:04d}"


def draw_course(rng: np.random.Generator, latents: Latents) -> Course:
    """Draw what happened after the resection, as seen until the end of follow-up.

    Recurrence is Weibull with proportional hazards; death without recurrence is rare
    and independent of it; survival after recurrence is exponential.

    Source: Bender, Augustin and Blettner (2005), Stat Med 24:1713, Weibull case, for
    the inverse of the cumulative hazard.
    """
    risk = math.exp(log_hazard(latents))
    recurrence = RECURRENCE_SCALE_MONTHS * (rng.exponential() / risk) ** (
        1 / RECURRENCE_SHAPE
    )
    other_death = 420.0 * rng.exponential() ** (1 / 1.3)
    after_recurrence = 42.0 * rng.exponential() * risk**-0.3
    end_of_follow_up = rng.uniform(*FOLLOW_UP_MONTHS)
    is_hepatic = bool(rng.uniform() < 0.62)
    death = other_death if other_death < recurrence else recurrence + after_recurrence
    survival = min(death, end_of_follow_up)
    has_recurrence = recurrence < survival
    return Course(
        disease_free_months=_to_tenths(recurrence if has_recurrence else survival),
        survival_months=_to_tenths(survival),
        has_recurrence=has_recurrence,
        has_liver_recurrence=has_recurrence and is_hepatic,
        has_died=death <= end_of_follow_up,
    )


def _draw_traits(rng: np.random.Generator) -> dict[str, float]:
    """Draw the four traits, without values so extreme that no image could show them."""
    values = np.clip(rng.normal(size=4), -2.6, 2.6)
    names = ("burden", "texture", "clinical", "response")
    return dict(zip(names, map(float, values), strict=True))


def _plan_scans(
    rng: np.random.Generator,
    resection: datetime.date,
    *,
    response: float,
    has_chemo: bool,
    missing_probability: float,
) -> tuple[PlannedScan, ...]:
    """Draw which scans exist, when they were made and how large the tumours were.

    Untreated tumours grow by 3 % in diameter a month. Under chemotherapy a response
    of one standard deviation takes 4.5 % a month off that, otherwise 2 %.
    """
    num_planned = 1 + int(rng.choice(3, p=NUM_SCANS_PROBABILITIES))
    monthly = 0.03 - (0.045 if has_chemo else 0.02) * response
    scans = []
    for index, nominal in enumerate(SCAN_MONTHS_BEFORE):
        jitter = rng.uniform(-0.3, 0.3) if nominal < 1 else rng.uniform(-1.2, 1.2)
        days = max(1, round((nominal + jitter) * DAYS_PER_MONTH))
        is_missing = rng.uniform() < missing_probability
        if index < len(SCAN_MONTHS_BEFORE) - num_planned or is_missing:
            continue
        factor = math.exp(-monthly * days / DAYS_PER_MONTH)
        scans.append(
            PlannedScan(
                index=index,
                study_date=resection - datetime.timedelta(days=days),
                diameter_factor=min(max(factor, 0.4), 1.8),
            )
        )
    return tuple(scans)


def _to_tenths(months: float) -> float:
    """Round a time as the public table does, never down to nothing."""
    return max(0.1, round(float(months), 1))
