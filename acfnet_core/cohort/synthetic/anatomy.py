"""The shapes inside a made-up abdomen: a liver, its vessels and its tumours.

Apart from the voxels, so that a patient's anatomy is a few numbers that every scan of
that patient shares, whatever its spacing. Coordinates are millimetres in DICOM patient
directions (x to the patient's left, y to the back, z to the head) with the origin in
the middle of the liver. Axis legend of grids: slice row column = z y x.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Point = tuple[float, float, float]

RIGHT_LOBE: tuple[Point, Point] = ((-48.0, -2.0, 0.0), (62.0, 72.0, 64.0))
LEFT_LOBE: tuple[Point, Point] = ((14.0, -40.0, 14.0), (58.0, 33.0, 36.0))
"""Centre and half axes of the two lobes of a liver of scale 1."""

VISCERAL_PLANE: tuple[Point, float] = ((0.45, 0.40, -0.80), 38.0)
"""Normal and offset of the plane that cuts the underside of the liver."""

MAX_NUM_TUMOURS = 8
MIN_DIAMETER_MM = 10.0
MAX_DIAMETER_MM = 90.0
NUM_RIPPLES = 4


@dataclass(frozen=True, kw_only=True)
class Capsule:
    """A tube with round ends: a piece of vessel."""

    start: Point
    end: Point
    radius_mm: float


HEPATIC_VEINS: tuple[Capsule, ...] = (
    Capsule(start=(-14.0, 32.0, 42.0), end=(-86.0, 12.0, 2.0), radius_mm=4.5),
    Capsule(start=(-14.0, 32.0, 42.0), end=(-50.0, -34.0, 6.0), radius_mm=4.5),
    Capsule(start=(-14.0, 32.0, 42.0), end=(16.0, -46.0, 16.0), radius_mm=4.0),
)
PORTAL_VEINS: tuple[Capsule, ...] = (
    Capsule(start=(-10.0, 8.0, -40.0), end=(-28.0, 2.0, -8.0), radius_mm=6.0),
    Capsule(start=(-28.0, 2.0, -8.0), end=(-82.0, 16.0, -22.0), radius_mm=5.0),
    Capsule(start=(-28.0, 2.0, -8.0), end=(2.0, -38.0, 10.0), radius_mm=4.5),
)
"""Vessels of a liver of scale 1; what lies outside the liver is left out of it."""


@dataclass(frozen=True, kw_only=True)
class LiverShape:
    """A liver: two lobes with a smooth random boundary and a flat underside.

    Args:
        scale: Size relative to the reference liver of about 1.4 litres.
        ripples: Waves of the boundary, each as (x, y, z) wave numbers in radians per
            millimetre and a phase in radians.
        remnant_normal: Direction of the side that stays after the resection.
        remnant_fraction: Share of the liver that stays, between 0 and 1.
    """

    scale: float
    ripples: tuple[tuple[float, float, float, float], ...]
    remnant_normal: Point
    remnant_fraction: float

    def level(
        self,
        x_mm: Float[np.ndarray, "*#grid"],
        y_mm: Float[np.ndarray, "*#grid"],
        z_mm: Float[np.ndarray, "*#grid"],
    ) -> Float[np.ndarray, "*grid"]:
        """Return a field that is below 1 inside the liver and above 1 outside."""
        lobes = [
            _ellipsoid_level(lobe, self.scale, x_mm, y_mm, z_mm)
            for lobe in (RIGHT_LOBE, LEFT_LOBE)
        ]
        ripple = np.zeros_like(lobes[0])
        for along_x, along_y, along_z, phase in self.ripples:
            ripple += np.sin(along_x * x_mm + along_y * y_mm + (along_z * z_mm + phase))
        normal, offset_mm = VISCERAL_PLANE
        depth_mm = normal[0] * x_mm + normal[1] * y_mm + normal[2] * z_mm
        underside = 1.0 + (depth_mm - offset_mm * self.scale) / 40.0
        return np.maximum(
            np.minimum(*lobes) + np.float32(0.06) * ripple, underside
        ).astype(lobes[0].dtype)

    def is_inside(self, point: Point, *, margin: float = 0.0) -> bool:
        """Say whether a point lies in the liver, `margin` levels from its boundary."""
        x, y, z = (np.array([value]) for value in point)
        return bool(self.level(x, y, z)[0] < 1.0 - margin)


@dataclass(frozen=True, kw_only=True)
class Tumour:
    """One metastasis as it is at the resection."""

    centre: Point
    diameter_mm: float


def draw_liver(rng: np.random.Generator, *, remnant_fraction: float) -> LiverShape:
    """Draw the shape of one patient's liver."""
    ripples: list[tuple[float, float, float, float]] = []
    for _ in range(NUM_RIPPLES):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        x, y, z = map(float, direction * 2 * math.pi / rng.uniform(55.0, 120.0))
        ripples.append((x, y, z, float(rng.uniform(0.0, 2 * math.pi))))
    angle = float(rng.normal(0.0, 0.35))
    return LiverShape(
        scale=float(rng.uniform(0.90, 1.05)),
        ripples=tuple(ripples),
        remnant_normal=(math.cos(angle), 0.0, math.sin(angle)),
        remnant_fraction=remnant_fraction,
    )


def draw_tumours(
    rng: np.random.Generator, liver: LiverShape, *, burden: float
) -> tuple[Tumour, ...]:
    """Draw a patient's metastases: more and larger ones with a higher `burden`.

    Args:
        rng: The patient's generator.
        liver: The liver that holds every centre.
        burden: A standard normal latent.

    Returns:
        At least one tumour, the largest first. A median patient has two, the largest
        28 mm wide.
    """
    num_tumours = 1
    if 0.8 * burden + 0.6 * rng.normal() > -0.2:
        num_tumours = 2 + int(rng.poisson(1.2 * math.exp(0.55 * burden)))
    num_tumours = min(num_tumours, MAX_NUM_TUMOURS)
    log_largest = math.log(28.0) + 0.50 * burden + 0.30 * rng.normal()
    shares = np.sort(rng.uniform(0.35, 0.9, size=num_tumours - 1))[::-1]
    diameters = math.exp(log_largest) * np.concatenate([[1.0], shares])
    return tuple(
        Tumour(
            centre=_draw_centre(rng, liver),
            diameter_mm=float(np.clip(diameter, MIN_DIAMETER_MM, MAX_DIAMETER_MM)),
        )
        for diameter in diameters
    )


def has_both_sides(tumours: tuple[Tumour, ...]) -> bool:
    """Say whether tumours lie in the left and in the right half of the liver."""
    sides = {tumour.centre[0] > -25.0 for tumour in tumours}
    return len(sides) == 2


def _draw_centre(rng: np.random.Generator, liver: LiverShape) -> Point:
    """Draw a point well inside the liver."""
    while True:
        centre, half_axes = RIGHT_LOBE if rng.uniform() < 0.72 else LEFT_LOBE
        offset = rng.uniform(-1.0, 1.0, size=3) * np.array(half_axes)
        x, y, z = (np.array(centre) + offset) * liver.scale
        point = (float(x), float(y), float(z))
        if liver.is_inside(point, margin=0.3):
            return point


def _ellipsoid_level(
    lobe: tuple[Point, Point],
    scale: float,
    x_mm: Float[np.ndarray, "*#grid"],
    y_mm: Float[np.ndarray, "*#grid"],
    z_mm: Float[np.ndarray, "*#grid"],
) -> Float[np.ndarray, "*grid"]:
    """Return the squared distance from a lobe's centre in units of its half axes."""
    centre, half_axes = lobe
    along_x, along_y, along_z = (
        ((axis - middle * scale) / (half * scale)) ** 2
        for axis, middle, half in zip(
            (x_mm, y_mm, z_mm), centre, half_axes, strict=True
        )
    )
    level: Float[np.ndarray, "*grid"] = along_x + along_y + along_z
    return level
