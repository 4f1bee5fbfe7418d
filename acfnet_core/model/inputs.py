"""What the network sees of a batch of patients, and how missing parts are hidden.

Axes: `batch scan channel depth height width feature`.

Every tensor that can have gaps travels with a mask. What stands in a masked place is
never read: `hide_missing` replaces it before the first arithmetic, so that even NaN
there changes no bit of the output.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PatientInputs:
    """Serial scans and clinical columns of a batch of patients.

    Attributes:
        scans: Standardised channels on the model's grid; there may be no scan at all.
        scan_time_months: Months from resection, negative before it.
        scan_mask: Which scans exist.
        channel_mask: Which channels of a scan exist (a scan may lack its tumour mask).
        clinical: Columns standardised by the contract's constants, never by the batch.
        clinical_mask: Which columns are known.
    """

    scans: Float[Tensor, "batch scan channel depth height width"]
    scan_time_months: Float[Tensor, "batch scan"]
    scan_mask: Bool[Tensor, "batch scan"]
    channel_mask: Bool[Tensor, "batch scan channel"]
    clinical: Float[Tensor, "batch feature"]
    clinical_mask: Bool[Tensor, "batch feature"]

    def to(self, device: torch.device | str) -> "PatientInputs":
        """Copy the batch to a device."""
        return PatientInputs(
            scans=self.scans.to(device),
            scan_time_months=self.scan_time_months.to(device),
            scan_mask=self.scan_mask.to(device),
            channel_mask=self.channel_mask.to(device),
            clinical=self.clinical.to(device),
            clinical_mask=self.clinical_mask.to(device),
        )


def channels_beside(
    scans: Float[Tensor, "batch scan channel depth height width"],
) -> Float[Tensor, "batch scan channel depth height width"]:
    """Lay the channels of each voxel beside each other in memory; copy only if needed.

    On a CPU the stem's backward pass then takes half of its time or less, and none of
    the copies that convolutions otherwise make of the finest volumes of the network.
    Where a batch is made is the place for it: the stem would have to keep a copy.
    """
    return scans.movedim(2, -1).contiguous().movedim(-1, 2)


def keep_modalities(
    inputs: PatientInputs, *, images: bool, columns: bool
) -> PatientInputs:
    """Take away all scans, or declare all columns unknown, unless they are kept."""
    if not images:
        inputs = replace(
            inputs,
            scans=inputs.scans[:, :0],
            scan_time_months=inputs.scan_time_months[:, :0],
            scan_mask=inputs.scan_mask[:, :0],
            channel_mask=inputs.channel_mask[:, :0],
        )
    if not columns:
        unknown = torch.zeros_like(inputs.clinical_mask)
        inputs = replace(inputs, clinical_mask=unknown)
    return inputs


def hide_missing(inputs: PatientInputs) -> PatientInputs:
    """Zero every masked place and put the scans in order of time, missing ones last.

    A scan of which no channel exists is no scan. The order matters because sums of
    floating-point numbers depend on it: after sorting, two orders of the same scans
    give the same bits.
    """
    scan_mask = inputs.scan_mask & inputs.channel_mask.any(dim=2)
    never = torch.full_like(inputs.scan_time_months, torch.inf)
    sortable = torch.where(scan_mask, inputs.scan_time_months, never)
    order = sortable.argsort(dim=1, stable=True)
    row = torch.arange(len(order), device=order.device).unsqueeze(1)

    scan_mask = scan_mask[row, order]
    channel_mask = inputs.channel_mask[row, order] & scan_mask.unsqueeze(2)
    times = inputs.scan_time_months[row, order]
    # Most batches are in order and whole: copying their voxels would cost a tenth of a
    # training step.
    is_sorted = bool((order == torch.arange(order.shape[1], device=order.device)).all())
    scans = inputs.scans if is_sorted else inputs.scans[row, order]
    if not bool(channel_mask.all()):
        scans = _zero_unless(channel_mask[..., None, None, None], scans)
    return PatientInputs(
        scans=scans,
        scan_time_months=_zero_unless(scan_mask, times),
        scan_mask=scan_mask,
        channel_mask=channel_mask,
        clinical=_zero_unless(inputs.clinical_mask, inputs.clinical),
        clinical_mask=inputs.clinical_mask,
    )


def _zero_unless(known: Bool[Tensor, "..."], values: Float[Tensor, "..."]) -> Tensor:
    """Replace unknown values by zero; multiplying by the mask would let NaN through."""
    return torch.where(known, values, torch.zeros((), dtype=values.dtype).to(values))
