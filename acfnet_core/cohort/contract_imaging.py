"""What the contract asks of images: which scans count, and on which grid they lie."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from acfnet_core.cohort.contract_columns import ClinicalColumn, ContractSection

Channel = Literal["ct", "liver", "tumour", "vessel"]
CHANNELS: tuple[Channel, ...] = ("ct", "liver", "tumour", "vessel")
"""The channels of every prepared scan, in the order of the tensor's channel axis."""

_Positive = Annotated[float, Field(gt=0)]


class HeaderCheck(ContractSection):
    """Columns that the images' headers say as well; they show a wrong linkage.

    Headers are compared with the table and never used in its place.
    """

    sex_column: str | None = None
    male_code: str = "1"
    female_code: str = "2"
    """The codes of `sex_column` that a header calls M and F."""
    age_column: str | None = None
    """Age in years, about the time of the scans."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are compared."""
        return tuple(filter(None, (self.sex_column, self.age_column)))


class ImagingExpectations(ContractSection):
    """Which scans are used and the grid on which they are laid.

    `min_slices`, `max_slice_...` and the window of months are bounds: what lies
    beyond them is refused. `expected_...`, `phase_words` and `min_scans` are
    expectations: `data check` warns of what differs, and it is used all the same.
    """

    modality: Literal["CT"] = "CT"
    phase: str | None = None
    """The contrast phase that is meant, in words."""
    phase_words: tuple[str, ...] = ()
    """A SeriesDescription of this phase has one of them, in any case; none given,
    nothing is compared."""
    grid_shape: tuple[int, int, int]
    """Voxels along (depth, height, width)."""
    grid_spacing_mm: tuple[float, float, float]
    """Voxel size along (depth, height, width)."""
    window_centre_hu: float
    window_width_hu: _Positive
    window_clip: _Positive
    """CT is stored in HU and shown as (HU - centre) / width, clipped to +-clip."""
    segments: dict[Literal["liver", "tumour", "vessel"], tuple[str, ...]]
    """Channel -> labels, any case; a final * stands for any ending."""
    preferred_segmentation: str = "Segmentation"
    """Of several segmentations of a series, the SeriesDescription that is taken."""
    resection_date_column: str | None = None
    earliest_months: float
    latest_months: float
    """Scans outside [earliest, latest], counted from the resection, are refused."""
    min_scans: Annotated[int, Field(ge=0)] = 0
    """Time points that a patient is expected to have."""
    max_scans: Annotated[int, Field(ge=1)] = 3
    """Of more time points, those nearest to the resection are kept."""
    min_slices: Annotated[int, Field(ge=2)] = 3
    max_slice_spacing_mm: _Positive = 10.0
    max_slice_thickness_mm: _Positive | None = None
    """Of what the headers call the thickness of a slice, where they do."""
    expected_slice_spacing_mm: tuple[_Positive, _Positive] | None = None
    expected_pixel_spacing_mm: tuple[_Positive, _Positive] | None = None
    """Least and greatest distance between slices and between pixels."""
    expected_slice_thickness_mm: tuple[_Positive, _Positive] | None = None
    """Least and greatest thickness of a slice."""
    header_check: HeaderCheck = HeaderCheck()

    @model_validator(mode="after")
    def _check_imaging(self) -> "ImagingExpectations":
        if min(self.grid_shape) < 1 or min(self.grid_spacing_mm) <= 0:
            raise ValueError("the grid's shape and spacing must be positive")
        if self.earliest_months > self.latest_months:
            raise ValueError("earliest_months is after latest_months")
        if not self.segments.get("liver"):
            raise ValueError("segments must name a liver: the crop is centred on it")
        if self.min_scans > self.max_scans:
            raise ValueError("min_scans is above max_scans")
        for bounds in (
            self.expected_slice_spacing_mm,
            self.expected_pixel_spacing_mm,
            self.expected_slice_thickness_mm,
        ):
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError("an expected spacing's least is above its greatest")
        return self

    @model_serializer(mode="wrap")
    def _leave_later_fields_out(
        self, serialise: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Write what came later only where it is set: earlier hashes stay."""
        content = serialise(self)
        for name in ("max_slice_thickness_mm", "expected_slice_thickness_mm"):
            if content.get(name) is None:
                content.pop(name, None)
        return content

    def references(self) -> Iterator[str]:
        """Yield the columns of the table that the images need or are compared with."""
        if self.resection_date_column:
            yield self.resection_date_column
        yield from self.header_check.columns

    def faults_of(self, columns: Mapping[str, ClinicalColumn]) -> Iterator[str]:
        """Yield what is wrong about the columns that the images refer to."""
        resection, header = self.resection_date_column, self.header_check
        if resection and columns[resection].type != "date":
            yield "imaging.resection_date_column must be of type date"
        if header.age_column and columns[header.age_column].type != "number":
            yield "imaging.header_check.age_column must be of type number"
        if header.sex_column:
            stated = {header.male_code, header.female_code}
            of_column = columns[header.sex_column].codes
            if header.male_code == header.female_code or not stated <= set(of_column):
                yield (
                    "imaging.header_check: male_code and female_code must be two codes "
                    f"of {header.sex_column}"
                )
