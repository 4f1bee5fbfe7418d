"""What `data check` warns of: expectations that are not met, and doubtful linkage.

A warning has counts only. It does not keep the data from being prepared.
"""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from acfnet_core.cohort.contract import DataContract, ImagingExpectations
from acfnet_core.cohort.header_linkage import AGE_TOLERANCE_YEARS, Agreement
from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.prepared.scan_plan import PatientPlan

_ROUNDING_MM = 1e-3
"""Spacings are differences of positions that are written in decimals."""


class CheckWarning(BaseModel):
    """One thing to look at, with a code and a line for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    text: str


def warn_of_size(contract: DataContract, num_patients: int) -> Iterator[CheckWarning]:
    """Warn where too few patients have an outcome for the site to join a run."""
    if num_patients < contract.fewest_patients:
        yield CheckWarning(
            code="TOO_FEW_PATIENTS",
            text=f"{num_patients} patients have an outcome; a run takes sites with "
            f"{contract.fewest_patients} or more",
        )


def warn_of_linkage(agreements: Mapping[str, Agreement]) -> Iterator[CheckWarning]:
    """Warn where the images' headers disagree with the table."""
    ranges = {"age": f" (within {AGE_TOLERANCE_YEARS:g} years)"}
    for name, agreement in agreements.items():
        if agreement.is_doubtful:
            yield CheckWarning(
                code="HEADERS_DISAGREE",
                text=f"headers and table disagree: {name} agrees"
                f"{ranges.get(name, '')} for {agreement.num_agreeing} of "
                f"{agreement.num_compared} patients; linkage may be wrong, so find out "
                "whether images or rows belong to other patients",
            )


def warn_of_images(
    imaging: ImagingExpectations,
    series: Sequence[GatedSeries],
    plans: Sequence[PatientPlan],
) -> Iterator[CheckWarning]:
    """Warn of accepted series and of patients that are not as the study expects."""
    accepted = [one for one in series if one.is_accepted and one.spacing_mm]
    between = [one.spacing_mm[0] for one in accepted if one.spacing_mm]
    within = [side for one in accepted if one.spacing_mm for side in one.spacing_mm[1:]]
    headers = [one.headers[0] for one in accepted]
    thick = [h.slice_thickness_mm for h in headers if h.slice_thickness_mm is not None]
    for what, found, expected in (
        ("spacings of slices", between, imaging.expected_slice_spacing_mm),
        ("spacings of pixels", within, imaging.expected_pixel_spacing_mm),
        ("thicknesses of slices", thick, imaging.expected_slice_thickness_mm),
    ):
        num_outside = sum(_is_outside(mm, expected) for mm in found)
        if expected and num_outside:
            yield CheckWarning(
                code="UNEXPECTED_SPACING",
                text=f"{num_outside} of {len(found)} {what} in accepted "
                f"series lie outside {expected[0]:g} to {expected[1]:g} mm",
            )
    num_other = sum(not _is_of_phase(one, imaging) for one in accepted)
    if imaging.phase_words and num_other:
        yield CheckWarning(
            code="UNEXPECTED_PHASE",
            text=f"{num_other} of {len(accepted)} accepted series do not name the "
            f"phase that the study expects ({imaging.phase or 'see phase_words'})",
        )
    num_short = sum(len(plan.scans) < imaging.min_scans for plan in plans)
    if num_short:
        yield CheckWarning(
            code="FEW_SCANS",
            text=f"{num_short} of {len(plans)} patients have fewer usable scans than "
            f"the {imaging.min_scans} expected",
        )


def _is_outside(spacing_mm: float, expected: tuple[float, float] | None) -> bool:
    if expected is None:
        return False
    return not expected[0] - _ROUNDING_MM <= spacing_mm <= expected[1] + _ROUNDING_MM


def _is_of_phase(series: GatedSeries, imaging: ImagingExpectations) -> bool:
    description = series.headers[0].series_description.casefold()
    return any(word.casefold() in description for word in imaging.phase_words)
