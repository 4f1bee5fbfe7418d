"""Memory does not grow with the slices, and little with the patients."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from references.ct_series import make_series, write_series

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.gated_list import gate_on_disk
from acfnet_core.cohort.quick_look.inspection import inspect_folder

MOST_BYTES_A_SERIES = 1000
"""Its headers would take 10 kB. What Python keeps to use again is counted too."""

FEW, MANY = 5, 45


def write_many(folder: Path, num_series: int) -> None:
    for number in range(num_series):
        write_series(make_series(f"P-{number}"), folder / f"P-{number}")


def kept_by(function: Callable[[Path], object], folder: Path) -> int:
    function(folder)
    gc.collect()
    tracemalloc.start()
    try:
        result = function(folder)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result is not None
    return taken


def bytes_a_series(function: Callable[[Path], object], folder: Path) -> float:
    write_many(folder / "few", FEW)
    write_many(folder / "many", MANY)
    few, many = kept_by(function, folder / "few"), kept_by(function, folder / "many")
    return (many - few) / (MANY - FEW)


def test_judging_a_folder_keeps_nothing_of_its_series(tmp_path: Path) -> None:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None

    def judge(folder: Path) -> object:
        return gate_on_disk(index_folder(folder), imaging)

    assert bytes_a_series(judge, tmp_path) < MOST_BYTES_A_SERIES


def test_looking_at_a_folder_keeps_nothing_of_its_series(tmp_path: Path) -> None:
    assert bytes_a_series(inspect_folder, tmp_path) < MOST_BYTES_A_SERIES
