"""A fault of the CT is told before one of its masks, whatever is read first."""

from pathlib import Path

import numpy as np
import pytest
from references.ct_series import (
    SHAPE,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.masks.segmentation import segmentations_of
from acfnet_core.cohort.prepared.scan_job import ScanJob, run_job
from acfnet_core.cohort.prepared.scan_plan import PlannedScan

IMAGING = shipped_contract("crlm").imaging
assert IMAGING is not None


def _refused(folder: Path, *, cut: bool, has_liver: bool) -> tuple[str, ...]:
    """Return the codes of a study whose files were spoilt since they were indexed."""
    assert IMAGING is not None
    slices = make_series()
    liver = liver_box() if has_liver else np.zeros(SHAPE, np.uint8)
    other = np.ones(SHAPE, np.uint8)
    masks = {"Liver": liver, "Tumor_1": other}
    write_segmentation(slices, folder / "images" / "seg.dcm", masks)
    write_series(slices, folder / "images" / "ct")
    index = index_folder(folder / "images")
    (series,) = gate_index(index, IMAGING)
    (segmentation,) = segmentations_of(index, {})
    if cut:
        path = series.headers[0].path
        path.write_bytes(path.read_bytes()[:-1])
    scan = PlannedScan(
        series=series,
        segmentation=segmentation,
        time_months=0.0,
        time_assumed=False,
    )
    job = ScanJob(
        store_folder=folder / "store",
        pseudonym="a" * 32,
        scans=(scan,),
        imaging=IMAGING,
    )
    return run_job(job).refused


@pytest.mark.parametrize(
    ("cut", "has_liver", "codes"),
    [
        (False, True, ()),
        (False, False, ("SEG_NO_LIVER",)),
        (True, True, ("DECODE_FAILED",)),
        (True, False, ("DECODE_FAILED",)),
    ],
)
def test_a_fault_of_the_ct_is_told_first(
    cut: bool, has_liver: bool, codes: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "store" / "scans").mkdir(parents=True, mode=0o700)
    assert _refused(tmp_path, cut=cut, has_liver=has_liver) == codes
