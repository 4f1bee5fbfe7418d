"""One patient's risk maps on the CT grid, as a file of a run's folder.

Axes: year depth height width. The file is written where the held-out patients are,
holds no identifier, and is read by the report.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acf_server.run_files import RISK_MAPS_FOLDER, damaged
from acfnet_core.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class RiskMapPatient:
    """What the report shows of one patient.

    Attributes:
        title: A name that is none, such as "held-out patient 1".
        years: The years after resection that the maps are for, one for each map.
        ct_hu: CT in Hounsfield units, `[depth height width]`; values outside the
            window may have been clipped.
        window_hu: The lowest and the highest Hounsfield unit that the model sees.
        liver: 1 inside the liver, 0 elsewhere, `[depth height width]`.
        tumour: 1 inside a tumour, 0 elsewhere, `[depth height width]`.
        maps: Contribution of each place to the image logit of a year,
            `[year depth height width]`; above 0 it raises the hazard.
        survival: Predicted probability of being free of the event at the right edge
            of each time bin, ` [bin]`; every year has the same number of bins.

    Raises:
        ValueError: The shapes do not fit each other, or the window is empty.
    """

    title: str
    years: tuple[int, ...]
    ct_hu: NDArray[np.float32]
    window_hu: tuple[float, float]
    liver: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    maps: NDArray[np.float32]
    survival: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Hold the shapes together."""
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu {self.window_hu} does not rise")
        grid = self.ct_hu.shape
        fits = (
            len(grid) == 3
            and self.liver.shape == grid
            and self.tumour.shape == grid
            and self.maps.shape == (len(self.years), *grid)
            and self.survival.ndim == 1
            and len(self.years) > 0
            and len(self.survival) % len(self.years) == 0
        )
        if not fits:
            raise ValueError(
                f"shapes do not fit: {len(self.years)} years, CT {grid}, liver "
                f"{self.liver.shape}, tumour {self.tumour.shape}, maps "
                f"{self.maps.shape}, survival {self.survival.shape}"
            )

    def survival_at_year(self, index: int) -> float:
        """Return the predicted survival at the end of the year of map `index`."""
        bins_per_year = len(self.survival) // len(self.years)
        return float(self.survival[(index + 1) * bins_per_year - 1])


def write_risk_map(path: Path, patient: RiskMapPatient) -> Path:
    """Write one patient's maps, wholly or not at all.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    tensors: dict[str, NDArray[Any]] = {
        "ct": np.ascontiguousarray(patient.ct_hu, dtype=np.float32),
        "liver": np.ascontiguousarray(patient.liver, dtype=np.uint8),
        "tumour": np.ascontiguousarray(patient.tumour, dtype=np.uint8),
        "maps": np.ascontiguousarray(patient.maps, dtype=np.float32),
        "survival": np.ascontiguousarray(patient.survival, dtype=np.float32),
    }
    metadata = {
        "title": patient.title,
        "years": json.dumps(patient.years),
        "window_hu": json.dumps(patient.window_hu),
    }
    write_atomically(path, save(tensors, metadata=metadata))
    return path


def read_risk_maps(run_folder: Path) -> tuple[RiskMapPatient, ...]:
    """Read the maps of all shown patients, in the order of the files' names.

    Raises:
        MachineError: A file cannot be read or does not have the agreed form.
    """
    paths = sorted((run_folder / RISK_MAPS_FOLDER).glob("*.safetensors"))
    return tuple(_read_risk_map(path) for path in paths)


def _read_risk_map(path: Path) -> RiskMapPatient:
    """Read one file of maps."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            low, high = json.loads(metadata["window_hu"])
            return RiskMapPatient(
                title=metadata["title"],
                years=tuple(int(year) for year in json.loads(metadata["years"])),
                ct_hu=file.get_tensor("ct"),
                window_hu=(float(low), float(high)),
                liver=file.get_tensor("liver"),
                tumour=file.get_tensor("tumour"),
                maps=file.get_tensor("maps"),
                survival=file.get_tensor("survival"),
            )
    except KeyError as error:
        raise damaged(path, f"lacks the metadata {error}") from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise damaged(path, f"is not a file of risk maps ({error})") from error
