"""One patient's risk maps on the CT grid, as a file of a run's folder.

Axes: year depth height width. The file is written where the held-out patients are,
holds no identifier, and is read by the report.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from acf_server.run_files import RISK_MAPS_FOLDER, damaged
from acfnet_core.pictures.risk_map_panels import RiskMapPatient
from acfnet_core.tensor_files import write_tensors


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
    write_tensors(path, tensors, metadata=metadata)
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
