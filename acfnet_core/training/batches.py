"""From a cohort's batch to what the network and the loss take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from acfnet_core.cohort.dataset import InputBatch, collate
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.inputs import PatientInputs, channels_beside
from acfnet_core.objective.time_bins import discretise_times


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Inputs and discretised outcomes of some patients, on one device."""

    inputs: PatientInputs
    time_bin: Int64[Tensor, " batch"]
    kind: Int64[Tensor, " batch"]


def shuffled_batches(
    num_patients: int, batch_size: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """Yield batches of indices without end; every pass visits each patient once."""
    while True:
        order = torch.randperm(num_patients, generator=generator).tolist()
        for start in range(0, num_patients, batch_size):
            yield order[start : start + batch_size]


def make_batch(
    cohort: PreparedCohort,
    indices: Sequence[int],
    config: AcfNetConfig,
    device: torch.device,
) -> TrainingBatch:
    """Load some patients and put them on the device."""
    batch = collate(cohort, indices)
    time_bin, kind = discretise_times(
        batch.time_months,
        batch.event,
        num_bins=config.num_bins,
        bin_width_months=config.bin_width_months,
    )
    return TrainingBatch(
        inputs=patient_inputs(batch, device),
        time_bin=time_bin.to(device),
        kind=kind.to(device),
    )


def patient_inputs(batch: InputBatch, device: torch.device) -> PatientInputs:
    """Return what the network sees of a batch: no outcome, no identifier."""
    on_cpu = device.type == "cpu"
    return PatientInputs(
        scans=channels_beside(batch.scans) if on_cpu else batch.scans,
        scan_time_months=batch.scan_time_months,
        scan_mask=batch.scan_mask,
        channel_mask=batch.channel_mask,
        clinical=batch.clinical,
        clinical_mask=batch.clinical_mask,
    ).to(device)
