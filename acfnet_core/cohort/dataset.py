"""Prepared patients as padded tensors.

Axes: `batch scan channel depth height width`. Patients with fewer scans than the most
in the batch are padded at the end with zeros, and `scan_mask` is False there. Nothing
else about a patient depends on who shares the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acfnet_core.cohort.contract import CHANNELS
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedInputs


@dataclass(frozen=True, kw_only=True)
class InputBatch:
    """The inputs of some patients, with an outcome or without.

    Attributes:
        scan_time_months: From the resection; before it negative; 0 where padded.
        clinical: Standardised by the contract; 0 where missing.
    """

    scans: Float[Tensor, "batch scan channel depth height width"]
    scan_time_months: Float[Tensor, "batch scan"]
    scan_mask: Bool[Tensor, "batch scan"]
    channel_mask: Bool[Tensor, "batch scan channel"]
    clinical: Float[Tensor, "batch feature"]
    clinical_mask: Bool[Tensor, "batch feature"]


@dataclass(frozen=True, kw_only=True)
class CohortBatch(InputBatch):
    """The inputs and outcomes of some patients.

    Attributes:
        event: 1 if the event was seen at `time_months`, else 0.
    """

    time_months: Float[Tensor, " batch"]
    event: Int[Tensor, " batch"]


def collate(cohort: PreparedCohort, indices: Sequence[int]) -> CohortBatch:
    """Load the patients at `indices` of `cohort.patients`, in that order, as one batch.

    Raises:
        ValueError: `indices` is empty.
        DataError: A prepared file is missing or damaged.
    """
    patients = [cohort.patients[index] for index in indices]
    return CohortBatch(
        **vars(collate_inputs(cohort, patients)),
        time_months=torch.tensor(
            [p.time_months for p in patients], dtype=torch.float32
        ),
        event=torch.tensor([p.event for p in patients], dtype=torch.int64),
    )


def collate_inputs(
    cohort: PreparedCohort, patients: Sequence[PreparedInputs]
) -> InputBatch:
    """Load patients of a cohort, who need no outcome, in that order as one batch.

    Raises:
        ValueError: There are none.
        DataError: A prepared file is missing or damaged.
    """
    if len(patients) == 0:
        raise ValueError("a batch must have at least one patient")
    size = len(patients)
    num_scans = max(len(patient.scans) for patient in patients)
    scans = np.zeros((size, num_scans, len(CHANNELS), *cohort.grid_shape), np.float32)
    scan_times = np.zeros((size, num_scans), np.float32)
    scan_mask = np.zeros((size, num_scans), np.bool_)
    channel_mask = np.zeros((size, num_scans, len(CHANNELS)), np.bool_)
    for row, patient in enumerate(patients):
        count = len(patient.scans)
        loaded = cohort.load_scans(patient)
        scans[row, :count], scan_times[row, :count], channel_mask[row, :count] = loaded
        scan_mask[row, :count] = True
    return InputBatch(
        scans=torch.from_numpy(scans),
        scan_time_months=torch.from_numpy(scan_times),
        scan_mask=torch.from_numpy(scan_mask),
        channel_mask=torch.from_numpy(channel_mask),
        clinical=torch.from_numpy(np.stack([p.clinical for p in patients])),
        clinical_mask=torch.from_numpy(np.stack([p.clinical_mask for p in patients])),
    )
