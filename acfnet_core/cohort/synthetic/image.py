"""Voxels of a made-up abdominal CT and the masks that belong to them.

The liver with its vessels and tumours is painted last, over everything else. What
carries a trait of the patient is smooth over several millimetres; what a scanner adds
is white noise and a shift, so that the two can be told apart. Axis legend: slice row
column = z y x, ascending along DICOM patient directions (head, back, left).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int16
from scipy import ndimage

from acfnet_core.cohort.synthetic.abdomen import paint_abdomen
from acfnet_core.cohort.synthetic.anatomy import (
    HEPATIC_VEINS,
    PORTAL_VEINS,
    Capsule,
    LiverShape,
    Point,
    Tumour,
)
from acfnet_core.cohort.synthetic.grid import (
    GRID_SIZE,
    Scanner,
    VoxelGrid,
    smooth_noise,
)
from acfnet_core.cohort.synthetic.patient import (
    STREAM_SCAN,
    STREAM_TEXTURE,
    PlannedScan,
    SyntheticPatient,
    patient_rng,
)

TEXTURE_LENGTH_MM = 5.5
LIVER_HU = 100.0
TUMOUR_HU = 58.0
TUMOUR_CENTRE_HU = 42.0
VESSEL_HU = 155.0


Masks = dict[str, Bool[np.ndarray, "slice row column"]]
"""Label, as in the public cohort -> voxels."""


@dataclass(frozen=True, kw_only=True)
class SyntheticScan:
    """A CT in HU with the masks of its segments, by the public cohort's labels."""

    hu: Int16[np.ndarray, "slice row column"]
    masks: Masks
    first_voxel_mm: Point
    spacing_mm: Point


def render_scan(
    patient: SyntheticPatient, scan: PlannedScan, scanner: Scanner
) -> SyntheticScan:
    """Draw one scan of one patient on one scanner.

    Returns:
        HU as whole numbers, and masks Liver, Liver Remnant, Hepatic, Portal and
        Tumor_1 ... Tumor_k. Every tumour has at least one voxel.
    """
    rng = patient_rng(
        patient.site_name,
        patient.index,
        seed=patient.seed,
        stream=STREAM_SCAN + scan.index,
    )
    shift_x, shift_y, shift_z = map(float, rng.normal(0.0, (3.0, 3.0, 2.0)))
    shift_mm = (shift_x, shift_y, shift_z)
    grid = VoxelGrid(scanner, shift_mm)
    hu = paint_abdomen(grid, patient.body_mass_index, rng)
    masks = _draw_masks(grid, patient.liver, patient.tumours, scan.diameter_factor)
    _paint_liver(hu, grid, masks, patient)
    hu = _look_through(hu, scanner, rng)
    table_position_mm = round(float(rng.uniform(-400.0, 400.0)), 1)
    return SyntheticScan(
        hu=hu,
        masks=masks,
        first_voxel_mm=(
            -(GRID_SIZE - 1) / 2 * scanner.pixel_spacing_mm,
            -(GRID_SIZE - 1) / 2 * scanner.pixel_spacing_mm,
            -(grid.shape[0] - 1) / 2 * scanner.slice_spacing_mm + table_position_mm,
        ),
        spacing_mm=grid.spacing_mm,
    )


def _draw_masks(
    grid: VoxelGrid,
    liver: LiverShape,
    tumours: tuple[Tumour, ...],
    diameter_factor: float,
) -> dict[str, Bool[np.ndarray, "slice row column"]]:
    """Return the segments; all lie in the liver, and they overlap as real ones do."""
    is_liver = np.zeros(grid.shape, dtype=bool)
    box = grid.box((-125.0, -95.0, -78.0), (85.0, 80.0, 78.0))
    is_liver[box] = (
        liver.level(grid.x[box[2]], grid.y[box[1]], grid.z[box[0]]).astype(np.float32)
        < 1
    )
    lesions = {
        f"Tumor_{number}": _draw_tumour(grid, tumour, diameter_factor, is_liver)
        for number, tumour in enumerate(tumours, start=1)
    }
    return {
        "Liver": is_liver,
        "Liver Remnant": _cut_remnant(grid, liver, is_liver, list(lesions.values())),
        "Hepatic": _draw_vessels(grid, HEPATIC_VEINS, liver.scale) & is_liver,
        "Portal": _draw_vessels(grid, PORTAL_VEINS, liver.scale) & is_liver,
        **lesions,
    }


def _draw_tumour(
    grid: VoxelGrid,
    tumour: Tumour,
    diameter_factor: float,
    is_liver: Bool[np.ndarray, "slice row column"],
) -> Bool[np.ndarray, "slice row column"]:
    """Return the voxels of one tumour, at least the one at its centre."""
    mask = np.zeros(grid.shape, dtype=bool)
    half_axes = (tumour.diameter_mm * diameter_factor / 2,) * 3
    box, radius = grid.ellipsoid(tumour.centre, half_axes)
    mask[box] = radius < 1
    mask &= is_liver
    z, y, x = (
        int(np.abs(axis.ravel() - place).argmin())
        for axis, place in zip(
            (grid.z, grid.y, grid.x), tumour.centre[::-1], strict=True
        )
    )
    mask[z, y, x] = True
    return mask


def _cut_remnant(
    grid: VoxelGrid,
    liver: LiverShape,
    is_liver: Bool[np.ndarray, "slice row column"],
    lesions: list[Bool[np.ndarray, "slice row column"]],
) -> Bool[np.ndarray, "slice row column"]:
    """Return the part of the liver that stays: one side of a plane, without tumours."""
    normal = liver.remnant_normal
    depth_mm = normal[0] * grid.x + normal[1] * grid.y + normal[2] * grid.z
    cut = np.quantile(depth_mm[is_liver], 1 - liver.remnant_fraction)
    remnant: Bool[np.ndarray, "slice row column"] = is_liver & (depth_mm > cut)
    for lesion in lesions:
        remnant &= ~lesion
    return remnant


def _draw_vessels(
    grid: VoxelGrid, capsules: tuple[Capsule, ...], scale: float
) -> Bool[np.ndarray, "slice row column"]:
    """Return the voxels of a tree of vessels."""
    mask = np.zeros(grid.shape, dtype=bool)
    for capsule in capsules:
        box, is_inside = grid.capsule(capsule, scale)
        mask[box] |= is_inside
    return mask


def _paint_liver(
    hu: Float[np.ndarray, "slice row column"],
    grid: VoxelGrid,
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
    patient: SyntheticPatient,
) -> None:
    """Paint the liver: its texture is a trait, its vessels are bright, tumours dark."""
    rng = patient_rng(
        patient.site_name, patient.index, seed=patient.seed, stream=STREAM_TEXTURE
    )
    is_liver = masks["Liver"]
    box = ndimage.find_objects(is_liver.astype(np.uint8))[0]
    amplitude_hu = 9.5 + 3.2 * patient.latents.texture
    shape = tuple(part.stop - part.start for part in box)
    texture = smooth_noise(rng, shape, TEXTURE_LENGTH_MM, grid.spacing_mm)
    inside = is_liver[box]
    tissue = LIVER_HU + rng.normal(0.0, 4.0) + max(2.0, amplitude_hu) * texture
    hu[box][inside] = tissue[inside]
    hu[masks["Hepatic"] | masks["Portal"]] = VESSEL_HU
    for mask in _lesions(masks):
        hu[mask] = TUMOUR_HU
        hu[ndimage.binary_erosion(mask, iterations=2)] = TUMOUR_CENTRE_HU


def _lesions(
    masks: dict[str, Bool[np.ndarray, "slice row column"]],
) -> Iterator[Bool[np.ndarray, "slice row column"]]:
    """Yield the masks of the tumours."""
    return (mask for name, mask in masks.items() if name.startswith("Tumor_"))


def _look_through(
    hu: Float[np.ndarray, "slice row column"],
    scanner: Scanner,
    rng: np.random.Generator,
) -> Int16[np.ndarray, "slice row column"]:
    """Blur, shift and add noise as the scanner does; round to whole HU."""
    blurred = ndimage.gaussian_filter(hu, (0.0, 0.55, 0.55))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    seen = blurred + np.float32(scanner.hu_shift) + scanner.noise_hu * noise
    return np.clip(np.rint(seen), -1024, 3071).astype(np.int16)
