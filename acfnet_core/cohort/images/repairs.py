"""Which faults of a CT series a site lets be mended, rather than refused.

Nothing is mended unless the site says so, and what was mended stands in the manifest.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What a site switches on; section [data.repairs] of site.toml.

    Attributes:
        gantry_tilt: Slices that are evenly shifted sideways are read where they lie.
        missing_slices: Single lost slices are interpolated between their neighbours.
        empty_uids: Files without UIDs get made-up ones, the same at every reading.
        patient_from_folder: Files without a patient identifier belong to the patient
            after whom the topmost folder below the images is named.
    """

    gantry_tilt: bool = False
    missing_slices: bool = False
    empty_uids: bool = False
    patient_from_folder: bool = False


NO_REPAIRS = Repairs()
ALL_REPAIRS = Repairs(
    gantry_tilt=True, missing_slices=True, empty_uids=True, patient_from_folder=True
)
