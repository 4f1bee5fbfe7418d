from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from acfnet_core.cohort.images.dicom_gate import GatedSeries
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import (
    GATE_CODES,
    NOTES,
    PLAN_CODES,
    REASONS,
    SEGMENTATION_CODES,
    ScanRefusedError,
)

REFUSED = GatedSeries(headers=(), codes=("LOSSY",), spacing_mm=None)


def test_a_refusal_comes_whole_from_a_worker_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(read_dicom_series, REFUSED).exception(timeout=60)
    here = ScanRefusedError("LOSSY")
    assert isinstance(error, ScanRefusedError)
    assert error.reason_code == "LOSSY"
    assert error.as_json() == here.as_json()
    assert (str(error), error.exit_status) == (str(here), here.exit_status)


@pytest.mark.parametrize("reason_code", [*GATE_CODES, *SEGMENTATION_CODES])
def test_a_refusal_says_what_its_code_means(reason_code: str) -> None:
    assert REASONS[reason_code] in ScanRefusedError(reason_code).message


def test_a_refusal_tells_a_segmentation_from_a_series() -> None:
    codes = [ScanRefusedError(reason).code for reason in ("SEG_OFF_GRID", "LOSSY")]
    assert codes == ["data.segmentation_refused", "data.series_refused"]


def test_no_code_means_two_things() -> None:
    assert len(REASONS) == len(GATE_CODES) + len(SEGMENTATION_CODES) + len(PLAN_CODES)


def test_a_note_is_a_code_of_a_series() -> None:
    assert GATE_CODES.keys() >= NOTES


def test_an_unknown_code_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        ScanRefusedError("TOO_PRETTY")
