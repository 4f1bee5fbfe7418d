"""Whether images and table speak of the same patients: sex and age, counted.

Headers are compared with the table and never used in its place: in the public cohort
both have the same marginals, and agree patient by patient no more than by chance.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from acfnet_core.cohort.images.dicom_index import InstanceHeader
from acfnet_core.cohort.spool import Spool
from acfnet_core.cohort.table.clinical_table import TableRow

AGE_TOLERANCE_YEARS = 2.0
"""The table has the age at resection, the header that at the scan, in whole years."""
MIN_COMPARED = 10
"""Of fewer patients a share says little."""
MIN_AGREEMENT = 0.9
"""Slips of the pen are rarer; another patient's header agrees in about half (sex)."""

_AGE = re.compile(r"([0-9]{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many patients' headers say what the table says."""

    num_compared: int
    num_agreeing: int

    @property
    def is_doubtful(self) -> bool:
        """Whether so many differ that images and table may be linked wrongly."""
        if self.num_compared < MIN_COMPARED:
            return False
        return self.num_agreeing < MIN_AGREEMENT * self.num_compared


def compare_headers(
    rows: Iterable[TableRow],
    ct_series: Iterable[Sequence[InstanceHeader]],
    spool: Spool | None = None,
) -> dict[str, Agreement]:
    """Compare sex and age in CT headers with the table, patient by patient.

    A patient counts where both sides say something. Sex agrees if every header has the
    table's, age if one is within `AGE_TOLERANCE_YEARS` of it.

    Args:
        rows: Of the table.
        ct_series: The headers of every series, or the first of each.
        spool: Where they are put by their patients; None makes a new one.

    Returns:
        `sex` and `age` with their counts.
    """
    first_headers = (spool or Spool()).new_list()
    for series in ct_series:
        first_headers.append(series[0], keys=[series[0].patient_id])
    sex: Counter[bool] = Counter()
    age: Counter[bool] = Counter()
    for row in rows:
        headers = list(first_headers.find(row.patient_id))
        sexes = {h.patient_sex for h in headers} & {"M", "F"}
        if row.stated_sex is not None and sexes:
            sex[sexes == {row.stated_sex}] += 1
        ages = [a for a in map(_age_years, headers) if a is not None]
        if row.stated_age_years is not None and ages:
            difference = min(abs(a - row.stated_age_years) for a in ages)
            age[difference <= AGE_TOLERANCE_YEARS] += 1
    return {
        name: Agreement(num_compared=agrees.total(), num_agreeing=agrees[True])
        for name, agrees in (("sex", sex), ("age", age))
    }


def _age_years(header: InstanceHeader) -> float | None:
    """Return the age in the header, such as 065Y; None where there is none."""
    match = _AGE.fullmatch(header.patient_age)
    return None if match is None else int(match[1]) / _PER_YEAR[match[2]]
