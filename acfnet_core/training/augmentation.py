"""Small changes to a patient's scans while training, such as another day would bring.

Every scan of a patient is turned, scaled and shifted alike, so that what changed from
one scan to the next stays what it was; brightness and contrast change scan by scan, as
scanners do. Nothing is mirrored: the liver lies on one side.

Axes: `batch scan channel depth height width`; in sampling grids (x, y, z) is (width,
height, depth).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from acfnet_core.cohort.contract import CHANNELS, ImagingExpectations
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import AugmentationSettings

_CT = CHANNELS.index("ct")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Changes patients' scans; what it draws depends on seed, step and patient alone.

    So a step is the same however it is divided over physical batches or processes.

    Attributes:
        settings: How large the changes may be.
        imaging: The contract's grid and window.
        seed: Of the round; from `derive_seed`.
    """

    settings: AugmentationSettings
    imaging: ImagingExpectations
    seed: int

    def change(
        self, inputs: PatientInputs, patients: Sequence[int], *, step: int
    ) -> PatientInputs:
        """Return the inputs with changed scans.

        Args:
            inputs: Of a batch, on any device.
            patients: Each patient's index in the cohort.
            step: From 1 in every round.

        Raises:
            ValueError: There is not one index for each patient.
        """
        size, num_scans = inputs.scans.shape[:2]
        if len(patients) != size:
            raise ValueError(f"got {len(patients)} indices for {size} patients")
        if num_scans == 0:
            return inputs
        drawn = [self._draw(patient, step, num_scans) for patient in patients]
        scans = inputs.scans.clone()
        for row, (theta, gain, offset) in enumerate(drawn):
            moved = self._move(scans[row], theta.to(scans))
            ct, clip = moved[:, _CT].clone(), self.imaging.window_clip
            bright = (ct * gain.to(scans) + offset.to(scans)).clamp(-clip, clip)
            # Air and bone are far beyond the window, whatever the scanner.
            moved[:, _CT] = torch.where(ct.abs() >= clip, ct, bright)
            scans[row] = moved
        return replace(inputs, scans=scans)

    def _draw(
        self, patient: int, step: int, num_scans: int
    ) -> tuple[
        Float[Tensor, "3 4"], Float[Tensor, "scan 1 1 1"], Float[Tensor, "scan 1 1 1"]
    ]:
        """Return where to sample, and gain and offset of each scan's window."""
        settings = self.settings
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, "augmentation", step, patient)
        )
        uniform = torch.rand(7, generator=generator, dtype=torch.float64) * 2 - 1
        normal = torch.randn(2, num_scans, 1, 1, 1, generator=generator)
        angles = uniform[:3] * torch.pi * settings.rotation_degrees / 180
        size = (1 + settings.scale_share) ** uniform[3]
        half_mm = torch.tensor(
            [
                count * spacing / 2
                for count, spacing in zip(
                    reversed(self.imaging.grid_shape),
                    reversed(self.imaging.grid_spacing_mm),
                    strict=True,
                )
            ],
            dtype=torch.float64,
        )
        turn = size * rotation(angles) * half_mm / half_mm[:, None]
        shift = uniform[4:] * settings.shift_mm / half_mm
        # The window is (HU - centre) / width: a gain about 0 HU moves the centre too.
        gain = 1 + settings.gain_sd * normal[0]
        centre = self.imaging.window_centre_hu * (gain - 1)
        offset = (centre + settings.offset_sd_hu * normal[1]) / (
            self.imaging.window_width_hu
        )
        return torch.cat([turn, shift[:, None]], dim=1), gain, offset

    def _move(
        self,
        scans: Float[Tensor, "scan channel depth height width"],
        theta: Float[Tensor, "3 4"],
    ) -> Float[Tensor, "scan channel depth height width"]:
        """Sample all scans at the same places: CT linearly, masks by the nearest."""
        places = functional.affine_grid(
            theta.expand(len(scans), 3, 4),
            list(scans.shape),
            align_corners=False,
        )
        masks = functional.grid_sample(
            scans, places, mode="nearest", padding_mode="zeros", align_corners=False
        )
        # Beyond the field the CT goes on as at its border: there is no air in there.
        masks[:, _CT : _CT + 1] = functional.grid_sample(
            scans[:, _CT : _CT + 1],
            places,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return masks


def rotation(angles: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Return the rotation about x, then y, then z, by angles in radians.

    Example:
        >>> import torch
        >>> quarter = torch.tensor([0.0, 0.0, torch.pi / 2])
        >>> rotation(quarter).round(decimals=6).abs().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    total = torch.eye(3, dtype=angles.dtype)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=angles.dtype)
        turn[first, first] = turn[second, second] = angle.cos()
        turn[second, first] = angle.sin()
        turn[first, second] = -angle.sin()
        total = turn @ total
    return total
