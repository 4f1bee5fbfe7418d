"""One prepared scan as it is stored, before windowing, and what is measured on it.

Axes: `depth height width`, those of the contract's grid.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int16, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.volume import LABEL_BITS
from acfnet_core.cohort.prepared.manifest import ScanRecord, damaged
from acfnet_core.cohort.prepared.scan_job import METADATA_KEY

LIVER_HU_RANGE = (20.0, 180.0)
LIVER_ML_RANGE = (500.0, 4000.0)
LEAST_LIVER_SHARE_INSIDE = 0.95
MOST_TUMOUR_SHARE_OUTSIDE = 0.1
"""Tumours at the edge stick out a little where the liver was drawn without them."""

_LENGTH_BYTES = 8
_MM3_PER_ML = 1000.0


@dataclass(frozen=True, kw_only=True)
class StoredScan:
    """A scan of the store.

    Attributes:
        ct_hu: Hounsfield units before windowing.
        labels: One bit a channel, `LABEL_BITS`.
        grid_spacing_mm: Of the grid, along depth, height and width.
        series_spacing_mm: Of the series it was made from, along slice, row and column.
        liver_share_inside: Share of the liver's volume that lies in the grid's field.
    """

    ct_hu: Int16[np.ndarray, "depth height width"]
    labels: UInt8[np.ndarray, "depth height width"]
    grid_spacing_mm: tuple[float, float, float]
    series_spacing_mm: tuple[float, float, float]
    liver_share_inside: float

    def mask(self, channel: str) -> Bool[np.ndarray, "depth height width"]:
        """Return where a channel other than the CT was drawn."""
        return (self.labels & LABEL_BITS[channel]) != 0


@dataclass(frozen=True, kw_only=True)
class ScanMeasures:
    """What a site looks at to see whether a scan was read as it should be.

    Attributes:
        liver_hu: Mean within the liver, tumours among it; None if no voxel of the
            grid is liver.
        liver_ml: Of the whole liver, the part beyond the grid added by its share.
        tumour_ml: Within the grid.
        tumour_share_outside: Share of the tumour's voxels that are not liver; None
            without a tumour.
    """

    liver_hu: float | None
    liver_ml: float
    tumour_ml: float
    tumour_share_outside: float | None


def read_stored_scan(
    store_folder: Path, record: ScanRecord, imaging: ImagingExpectations
) -> StoredScan:
    """Read one scan of a store, and see that it is the one that was prepared.

    Raises:
        DataError: The file is missing or damaged (`data.store_damaged`).
    """
    path = store_folder / record.file
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise damaged(path)
        tensors, metadata = load(content), _read_metadata(content)
        ct_hu, labels = tensors["ct_hu"], tensors["labels"]
        depth, height, width = map(float, metadata["series_spacing_mm"])
        share = float(metadata["liver_share_inside"])
    except (SafetensorError, LookupError, OSError, TypeError, ValueError) as error:
        raise damaged(path) from error
    if not ct_hu.shape == labels.shape == imaging.grid_shape:
        raise damaged(path)
    return StoredScan(
        ct_hu=ct_hu,
        labels=labels,
        grid_spacing_mm=imaging.grid_spacing_mm,
        series_spacing_mm=(depth, height, width),
        liver_share_inside=share,
    )


def measure_scan(scan: StoredScan) -> ScanMeasures:
    """Measure the liver and the tumours of a scan."""
    liver, tumour = scan.mask("liver"), scan.mask("tumour")
    voxel_ml = float(np.prod(scan.grid_spacing_mm)) / _MM3_PER_ML
    num_tumour = int(np.count_nonzero(tumour))
    inside_ml = int(np.count_nonzero(liver)) * voxel_ml
    return ScanMeasures(
        liver_hu=float(scan.ct_hu[liver].mean()) if liver.any() else None,
        liver_ml=inside_ml / max(scan.liver_share_inside, 1e-6),
        tumour_ml=num_tumour * voxel_ml,
        tumour_share_outside=(
            int(np.count_nonzero(tumour & ~liver)) / num_tumour if num_tumour else None
        ),
    )


def find_oddities(scan: StoredScan, measures: ScanMeasures) -> tuple[str, ...]:
    """Return what a reader should look at in a scan, in words with figures.

    The bounds are wide: a scan within them may still be wrong, one beyond them may be
    right.
    """
    found = []
    share, outside = scan.liver_share_inside, measures.tumour_share_outside
    if share < LEAST_LIVER_SHARE_INSIDE:
        found.append(f"{100 * share:.0f} % of the liver in the grid")
    if not _is_within(measures.liver_ml, LIVER_ML_RANGE):
        found.append(f"liver {measures.liver_ml:.0f} ml")
    if measures.liver_hu is None:
        found.append("no liver in the grid")
    elif not _is_within(measures.liver_hu, LIVER_HU_RANGE):
        found.append(f"liver {measures.liver_hu:.0f} HU")
    if outside is not None and outside > MOST_TUMOUR_SHARE_OUTSIDE:
        found.append(f"{100 * outside:.0f} % of the tumour outside the liver")
    return tuple(found)


def _is_within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _read_metadata(content: bytes) -> dict[str, Any]:
    """Read what the job that prepared a file wrote about it into its header."""
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:end])
    return dict(json.loads(header["__metadata__"][METADATA_KEY]))
