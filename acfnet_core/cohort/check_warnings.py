"""What `data check` warns of: expectations that are not met, and doubtful linkage.

A warning has counts only. It does not keep the data from being prepared.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

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
    series: Iterable[GatedSeries],
    plans: Iterable[PatientPlan],
) -> Iterator[CheckWarning]:
    """Warn of accepted series and of patients that are not as the study expects."""
    met = _Met(imaging)
    for one in series:
        if one.is_accepted and one.spacing_mm:
            met.add(one, one.spacing_mm)
    for what, expected in met.bounds.items():
        num_outside = met.num_outside[what]
        if expected and num_outside:
            yield CheckWarning(
                code="UNEXPECTED_SPACING",
                text=f"{num_outside} of {met.num_found[what]} {what} in accepted "
                f"series lie outside {expected[0]:g} to {expected[1]:g} mm",
            )
    if imaging.phase_words and met.num_of_other_phase:
        yield CheckWarning(
            code="UNEXPECTED_PHASE",
            text=f"{met.num_of_other_phase} of {met.num_series} accepted series do "
            "not name the phase that the study expects "
            f"({imaging.phase or 'see phase_words'})",
        )
    counts = Counter(len(plan.scans) < imaging.min_scans for plan in plans)
    if counts[True]:
        yield CheckWarning(
            code="FEW_SCANS",
            text=f"{counts[True]} of {counts.total()} patients have fewer usable scans "
            f"than the {imaging.min_scans} expected",
        )


class _Met:
    """What accepted series are like, as counts beside what the study expects."""

    def __init__(self, imaging: ImagingExpectations) -> None:
        self._imaging = imaging
        self.bounds = {
            "spacings of slices": imaging.expected_slice_spacing_mm,
            "spacings of pixels": imaging.expected_pixel_spacing_mm,
            "thicknesses of slices": imaging.expected_slice_thickness_mm,
        }
        self.num_found: Counter[str] = Counter()
        self.num_outside: Counter[str] = Counter()
        self.num_series = 0
        self.num_of_other_phase = 0

    def add(self, one: GatedSeries, spacing_mm: tuple[float, float, float]) -> None:
        self.num_series += 1
        self.num_of_other_phase += not _is_of_phase(one, self._imaging)
        thickness_mm = one.headers[0].slice_thickness_mm
        lengths_mm = (*spacing_mm, thickness_mm)
        names = tuple(self.bounds)
        for what, mm in zip(
            (names[0], *names[1:2] * 2, names[2]), lengths_mm, strict=True
        ):
            if mm is not None:
                self.num_found[what] += 1
                self.num_outside[what] += _is_outside(mm, self.bounds[what])


def _is_outside(spacing_mm: float, expected: tuple[float, float] | None) -> bool:
    if expected is None:
        return False
    return not expected[0] - _ROUNDING_MM <= spacing_mm <= expected[1] + _ROUNDING_MM


def _is_of_phase(series: GatedSeries, imaging: ImagingExpectations) -> bool:
    description = series.headers[0].series_description.casefold()
    return any(word.casefold() in description for word in imaging.phase_words)
