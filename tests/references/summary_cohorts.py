"""Prepared cohorts whose values are ones that a table can hold, and their summaries."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from acfnet_core.cohort.contract import CHANNELS, DataContract, shipped_contract
from acfnet_core.cohort.prepared.manifest import ScanRecord
from acfnet_core.cohort.prepared.scan_job import METADATA_KEY
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedPatient
from acfnet_core.federation.site_summary import (
    FeatureSummary,
    Moments,
    OutcomeSummary,
    Quartiles,
    ScanSummary,
    SiteSummary,
)

GRID = (2, 3, 3)
CONTRACT = shipped_contract("crlm").without_imaging()


def draw_cohort(
    num_patients: int,
    *,
    seed: int,
    share_missing: float = 0.1,
    event_share: float = 0.5,
    contract: DataContract = CONTRACT,
) -> PreparedCohort:
    """Draw patients whose numbers are normal and whose codes are drawn."""
    generator = np.random.default_rng(seed)
    return PreparedCohort(
        contract=contract,
        folder=Path("in-memory"),
        patients=tuple(
            _draw(index, generator, contract, share_missing, event_share)
            for index in range(num_patients)
        ),
    )


def with_patients(
    cohort: PreparedCohort, patients: Sequence[PreparedPatient]
) -> PreparedCohort:
    """Return the cohort with other patients."""
    return replace(cohort, patients=tuple(patients))


def with_clinical(
    patient: PreparedPatient, position: int, value: float
) -> PreparedPatient:
    """Return a patient whose standardised value at `position` is another, and known."""
    clinical, mask = patient.clinical.copy(), patient.clinical_mask.copy()
    clinical[position], mask[position] = value, True
    return replace(patient, clinical=clinical, clinical_mask=mask)


def imaging_contract() -> DataContract:
    """Return the shipped contract with a grid of few voxels."""
    contract = shipped_contract("crlm")
    assert contract.imaging is not None
    imaging = contract.imaging.model_copy(update={"grid_shape": GRID})
    return contract.model_copy(update={"imaging": imaging})


def write_scan(
    folder: Path, name: str, *, liver_hu: int, slice_spacing_mm: float
) -> ScanRecord:
    """Write a prepared scan of which one half is liver."""
    ct_hu = np.full(GRID, -100, np.int16)
    labels = np.zeros(GRID, np.uint8)
    ct_hu[0], labels[0] = liver_hu, 1
    metadata = {
        "series_spacing_mm": (slice_spacing_mm, 0.8, 0.8),
        "liver_share_inside": 1.0,
    }
    content = save(
        {"ct_hu": ct_hu, "labels": labels},
        metadata={METADATA_KEY: json.dumps(metadata)},
    )
    place = f"scans/{name}/0.safetensors"
    (folder / place).parent.mkdir(parents=True)
    (folder / place).write_bytes(content)
    return ScanRecord(
        file=place,
        sha256=hashlib.sha256(content).hexdigest(),
        time_months=0.0,
        time_assumed=False,
        channel_mask=(True,) * len(CHANNELS),
    )


def make_summary(site: str = "hospital-a") -> SiteSummary:
    """Return a summary with a figure in every place."""
    return SiteSummary(
        consortium="crlm",
        site=site,
        release=1,
        acfnet_version="0.1.0",
        contract_name=CONTRACT.name,
        contract_sha256=CONTRACT.sha256(),
        minimum_cell=10,
        num_patients=100,
        outcome=OutcomeSummary(
            num_events=50,
            median_follow_up_years=4.0,
            num_at_risk={"1": 80, "3": 40, "5": 20},
        ),
        scans=ScanSummary(
            num_with_scans=80,
            num_scans=80,
            patients_by_scans={"0": 20, "1": 80},
            slice_spacing_mm=Quartiles(lower=1.5, median=2.5, upper=5.0),
            pixel_spacing_mm=Quartiles(median=0.8),
            liver_hu=Moments(mean=100.0, standard_deviation=15.0),
        ),
        features={
            "age": FeatureSummary(
                num_known=100, moments=Moments(mean=60.0, standard_deviation=12.0)
            ),
            "sex": FeatureSummary(num_known=100, codes={"1": 60, "2": 40}),
        },
        refused={"MISSING_SLICES": 12, "GANTRY_TILT": None},
    )


def _draw(
    index: int,
    generator: np.random.Generator,
    contract: DataContract,
    share_missing: float,
    event_share: float,
) -> PreparedPatient:
    values: list[float] = []
    mask: list[bool] = []
    for name in contract.features:
        column = contract.columns[name]
        constants = column.standardise
        is_known = bool(generator.random() > share_missing)
        if column.type == "category":
            drawn = list(
                np.eye(column.num_inputs)[generator.integers(len(column.codes))]
            )
        elif column.type == "binary":
            code = float(generator.random() < 0.3)
            drawn = [(code - constants.mean) / constants.standard_deviation]
        else:
            drawn = [generator.normal()]
        values += drawn if is_known else [0.0] * column.num_inputs
        mask += [is_known] * column.num_inputs
    return PreparedPatient(
        pseudonym=f"patient-{index}",
        clinical=np.array(values, np.float32),
        clinical_mask=np.array(mask, np.bool_),
        time_months=float(generator.uniform(1.0, 90.0)),
        event=int(generator.random() < event_share),
        fong_score=None,
        scans=(),
    )
