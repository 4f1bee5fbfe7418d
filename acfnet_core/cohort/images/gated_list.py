"""Every judged series of a folder, on the disk; headers are read when asked for.

What planning asks of a series is its verdict and its first header. The other headers
of its slices are read for the series that are used, one patient after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from acfnet_core.cohort.contract import ImagingExpectations
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series
from acfnet_core.cohort.images.dicom_index import DicomIndex, InstanceHeader
from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs
from acfnet_core.cohort.lazy_sequence import LazySequence
from acfnet_core.cohort.spool import Spool, SpooledList


class GatedList(LazySequence[GatedSeries]):
    """Judged series in the order in which they were added.

    Args:
        spool: Where they are put.
    """

    def __init__(self, spool: Spool) -> None:
        self._verdicts: SpooledList[tuple[GatedSeries, int]] = spool.new_list()
        self._stacks: SpooledList[Sequence[InstanceHeader]] = spool.new_list()
        self._met: SpooledList[InstanceHeader] = spool.new_list()

    def __len__(self) -> int:
        """Return how many series there are."""
        return len(self._verdicts)

    def add(self, series: GatedSeries, headers: Sequence[InstanceHeader]) -> None:
        """Add a series.

        Args:
            series: With its verdict.
            headers: As they were met, copies and all.
        """
        verdict = replace(series, headers=tuple(series.headers[:1]))
        patients = sorted({header.patient_id for header in series.headers})
        self._verdicts.append((verdict, len(series.headers)), keys=patients)
        self._stacks.append(tuple(series.headers))
        met = sorted({header.patient_id for header in headers})
        self._met.append(headers[0], keys=met)

    def item_at(self, index: int) -> GatedSeries:
        """Return a series; its headers beyond the first are read when asked for."""
        verdict, num_headers = self._verdicts[index]
        headers = _StackHeaders(
            verdict.headers[0], num_headers, lambda: tuple(self._stacks[index])
        )
        return replace(verdict, headers=headers)

    def of_patient(self, patient_id: str) -> Iterator[GatedSeries]:
        """Yield the series that have a slice of a patient."""
        return map(self.item_at, self._verdicts.places(patient_id))

    @property
    def first_met(self) -> Sequence[InstanceHeader]:
        """Of each series, the header that was met first."""
        return self._met

    def patients(self) -> Iterator[str]:
        """Yield the identifier of every patient in the files, once."""
        return self._met.keys()

    def has_patient(self, patient_id: str) -> bool:
        """Tell whether any file is of a patient."""
        return self._met.has(patient_id)


def gate_on_disk(
    index: DicomIndex, imaging: ImagingExpectations, repairs: Repairs = NO_REPAIRS
) -> GatedList:
    """Judge every CT series of an index of any size, whose headers are mended."""
    judged = GatedList(index.spool)
    for headers in index.ct_series:
        series = gate_series(
            headers, imaging, broken_folders=index.broken_folders, repairs=repairs
        )
        judged.add(series, headers)
    return judged


class _StackHeaders(LazySequence[InstanceHeader]):
    def __init__(
        self, first: Any, length: int, read: Callable[[], tuple[Any, ...]]
    ) -> None:
        self._first, self._length, self._read = first, length, read
        self._known: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[InstanceHeader]:
        return iter(self._all())

    def __reduce__(self) -> tuple[type, tuple[tuple[Any, ...]]]:
        # Another process gets the headers themselves.
        return tuple, (self._all(),)

    def item_at(self, index: int) -> InstanceHeader:
        header: InstanceHeader = self._all()[index] if index else self._first
        return header

    def _all(self) -> tuple[Any, ...]:
        if self._known is None:
            self._known = self._read()
        return self._known
