from pathlib import Path

import pytest
from references.ct_series import make_series, write_series

from acfnet_core.cohort.images import header_runs
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.header_runs import HeaderRuns
from acfnet_core.cohort.spool import Spool


def test_series_come_whole_in_both_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (headers,) = write_and_index(tmp_path)
    monkeypatch.setattr(header_runs, "_RUN", 3)
    runs = HeaderRuns(Spool())
    for place, header in enumerate(headers[:7]):
        runs.add("ba"[place % 2], [header])
    even, odd = headers[0:7:2], headers[1:7:2]
    assert list(runs.as_met()) == [even, odd]
    assert list(runs.first_of_each()) == [headers[0], headers[1]]
    assert list(runs.by_key()) == [odd, even]


def test_a_series_in_two_folders_is_one(tmp_path: Path) -> None:
    slices = make_series()
    write_series(slices[:5], tmp_path / "one")
    write_series(slices[5:], tmp_path / "two")
    (series,) = index_folder(tmp_path).ct_series
    assert len(series) == len(slices)


def write_and_index(folder: Path) -> tuple[tuple[object, ...], ...]:
    write_series(make_series(), folder)
    return tuple(index_folder(folder).ct_series)
