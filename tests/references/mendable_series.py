"""Series of `references.ct_series` with faults that a site may let be mended."""

from collections.abc import Callable

import numpy as np
from pydicom import Dataset
from references.ct_series import INTERCEPT, ORIGIN_MM, SHAPE, SPACING_MM, hu_at

Fault = Callable[[list[Dataset]], None]


def tilt(slices: list[Dataset], *, degrees: float = 15.0) -> None:
    """Shift slices evenly to the back, and give each voxel its new place's value."""
    drift = float(np.tan(np.radians(degrees)))
    rows = np.arange(SHAPE[1]) * SPACING_MM[1]
    columns = np.arange(SHAPE[2]) * SPACING_MM[2]
    for one in slices:
        x, y, z = map(float, one.ImagePositionPatient)
        shifted = round(y + (z - ORIGIN_MM[2]) * drift, 3)
        one.ImagePositionPatient = [x, shifted, z]
        grid_y, grid_x = np.meshgrid(rows + shifted, columns + x, indexing="ij")
        hu = hu_at(np.stack([grid_x, grid_y, np.full_like(grid_x, z)], axis=-1))
        one.PixelData = np.rint(hu - INTERCEPT).astype("<i2").tobytes()


def lose_one(slices: list[Dataset]) -> None:
    """Lose the slice of index 6."""
    del slices[6]


def empty_uids(slices: list[Dataset]) -> None:
    """Empty every UID of the headers."""
    for one in slices:
        one.SOPClassUID = one.SOPInstanceUID = ""
        one.StudyInstanceUID = one.SeriesInstanceUID = one.FrameOfReferenceUID = ""


def no_patient(slices: list[Dataset]) -> None:
    """Empty the patient's identifier."""
    for one in slices:
        one.PatientID = ""


FAULTS: dict[str, Fault] = {
    "GANTRY_TILT": tilt,
    "MISSING_SLICES": lose_one,
    "EMPTY_UID": empty_uids,
    "NO_PATIENT_ID": no_patient,
}
"""The gate's code -> what brings it about."""
