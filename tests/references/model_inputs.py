"""Made-up inputs for the network, small enough for the fast tests."""

import dataclasses

import torch
from torch import Tensor

from acfnet_core.model.inputs import PatientInputs
from acfnet_core.model.network import AcfNet, AcfNetConfig, build_model

NUM_FEATURES = 5
GRID = (8, 16, 16)


def make_inputs(
    *, num_patients: int = 3, num_scans: int = 2, seed: int = 0
) -> PatientInputs:
    """Draw inputs of which nothing is missing."""
    generator = torch.Generator().manual_seed(seed)
    scans = torch.randn(num_patients, num_scans, 4, *GRID, generator=generator)
    times = 24 * torch.rand(num_patients, num_scans, generator=generator) - 6
    return PatientInputs(
        scans=scans,
        scan_time_months=times,
        scan_mask=torch.ones(num_patients, num_scans, dtype=torch.bool),
        channel_mask=torch.ones(num_patients, num_scans, 4, dtype=torch.bool),
        clinical=torch.randn(num_patients, NUM_FEATURES, generator=generator),
        clinical_mask=torch.ones(num_patients, NUM_FEATURES, dtype=torch.bool),
    )


def with_gaps(inputs: PatientInputs, *, filler: float) -> PatientInputs:
    """Take away some of everything and write `filler` wherever something is missing.

    The first patient lacks the last scan, the second all scans and two columns, the
    third a channel of the first scan and every column.
    """
    scan_mask = inputs.scan_mask.clone()
    channel_mask = inputs.channel_mask.clone()
    clinical_mask = inputs.clinical_mask.clone()
    scan_mask[0, -1] = False
    scan_mask[1] = False
    clinical_mask[1, :2] = False
    channel_mask[2, 0, 2] = False
    clinical_mask[2] = False
    known = (scan_mask.unsqueeze(2) & channel_mask)[..., None, None, None]
    return PatientInputs(
        scans=inputs.scans.where(known, filler),
        scan_time_months=inputs.scan_time_months.where(scan_mask, filler),
        scan_mask=scan_mask,
        channel_mask=channel_mask,
        clinical=inputs.clinical.where(clinical_mask, filler),
        clinical_mask=clinical_mask,
    )


def without_scans(inputs: PatientInputs) -> PatientInputs:
    """Return the patients as they are where there is no imaging at all."""
    return dataclasses.replace(
        inputs,
        scans=inputs.scans[:, :0],
        scan_time_months=inputs.scan_time_months[:, :0],
        scan_mask=inputs.scan_mask[:, :0],
        channel_mask=inputs.channel_mask[:, :0],
    )


def select_patients(inputs: PatientInputs, indices: list[int]) -> PatientInputs:
    """Return some of the patients."""
    return PatientInputs(**{k: v[indices] for k, v in vars(inputs).items()})


def make_network(*, seed: int = 0, **settings: object) -> AcfNet:
    """Build a network as it might be after training: no branch near zero."""
    values = {
        "num_clinical_features": NUM_FEATURES,
        "dropout": 0.0,
        "token_dropout": 0.0,
        **settings,
    }
    model = build_model(AcfNetConfig.model_validate(values), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.2 * noise)
    return model


def tensors_of(output: object) -> dict[str, Tensor]:
    """Return the tensors of an output by name."""
    return {k: v for k, v in vars(output).items() if isinstance(v, Tensor)}
