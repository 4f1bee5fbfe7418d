"""Choosing held-out patients whose risk maps the report shows, and writing the maps.

Axes: `patient bin`; maps `year depth height width`.
"""

from math import inf
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from acf_server.risk_map_files import write_risk_map
from acf_server.run_files import RISK_MAPS_FOLDER
from acfnet_core.cohort.dataset import collate
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.files import make_folder
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.model.risk_maps import upsample_risk_maps
from acfnet_core.pictures.risk_map_panels import RiskMapPatient
from acfnet_core.time_units import MONTHS_PER_YEAR
from acfnet_core.training.batches import patient_inputs


def write_held_out_maps(
    run_folder: Path,
    model: AcfNet,
    cohort: PreparedCohort,
    *,
    survival: Float[np.ndarray, "patient bin"],
    supported_months: float | None,
) -> None:
    """Show the highest and the lowest predicted risk among patients with a scan.

    Maps of an earlier evaluation are taken away.

    Args:
        run_folder: Receives the files.
        model: The judged model.
        cohort: The held-out patients.
        survival: What the model predicts for them.
        supported_months: The maps of years that end later are left out.

    Raises:
        MachineError: The folder cannot be written or the disk is full.
    """
    num_maps = _count_supported(model.config, supported_months)
    folder = run_folder / RISK_MAPS_FOLDER
    for stale in folder.glob("*.safetensors"):
        stale.unlink()
    if num_maps == 0:
        return
    by_risk = np.argsort(survival.mean(axis=1), kind="stable")
    with_scan = [int(i) for i in by_risk if cohort.patients[i].scans]
    shown = dict.fromkeys([*with_scan[:1], *with_scan[-1:]])
    words = ("highest predicted risk", "lowest predicted risk")
    for number, (index, what) in enumerate(zip(shown, words, strict=False), start=1):
        make_folder(folder)
        title = f"held-out patient {number}, {what}"
        patient = _risk_map(model, cohort, index, title, num_maps)
        write_risk_map(folder / f"patient-{number}.safetensors", patient)


def _count_supported(config: AcfNetConfig, supported_months: float | None) -> int:
    """Count the maps, from the first, whose years end within what is supported."""
    limit = inf if supported_months is None else supported_months
    return sum(year * MONTHS_PER_YEAR <= limit for year in config.risk_map_years)


def _risk_map(
    model: AcfNet, cohort: PreparedCohort, index: int, title: str, num_maps: int
) -> RiskMapPatient:
    """Spread a patient's maps over the latest scan's grid."""
    batch = collate(cohort, [index])
    with torch.no_grad():
        output = model(patient_inputs(batch, torch.device("cpu")))
        maps = upsample_risk_maps(output.risk_maps, cohort.grid_shape)
    latest = len(cohort.patients[index].scans) - 1
    windowed, liver, tumour, _ = batch.scans[0, latest].numpy()
    imaging = cohort.contract.imaging
    if imaging is None:
        raise ValueError("a cohort with scans has a contract with imaging")
    bins_per_map = model.config.num_bins // model.config.num_virtual_years
    half_hu = imaging.window_clip * imaging.window_width_hu
    return RiskMapPatient(
        title=title,
        years=model.config.risk_map_years[:num_maps],
        ct_hu=windowed * imaging.window_width_hu + imaging.window_centre_hu,
        window_hu=(
            imaging.window_centre_hu - half_hu,
            imaging.window_centre_hu + half_hu,
        ),
        liver=liver.astype(np.uint8),
        tumour=tumour.astype(np.uint8),
        maps=maps[0, :num_maps].numpy(),
        survival=output.survival[0, : num_maps * bins_per_map].numpy(),
    )
