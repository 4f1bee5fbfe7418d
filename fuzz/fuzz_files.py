"""Files of any content against what reads them: only the agreed errors come out.

    python fuzz/fuzz_files.py header -max_total_time=120

Targets are the functions that look into files which somebody else wrote. An error that
a target does not announce, a hang or a runaway memory ends the run with the file that
caused it. Needs the dependency group `fuzz`; `make fuzz` runs every target.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pydicom", "highdicom", "acfnet_core.cohort"]):
    import numpy as np
    from references.ct_series import (
        liver_box,
        make_series,
        write_segmentation,
        write_series,
    )
    from references.structure_sets import (
        affine_of,
        liver_contours,
        write_nifti,
        write_structures,
    )

    from acfnet_core.cohort.contract import shipped_contract
    from acfnet_core.cohort.images.dicom_gate import gate_index
    from acfnet_core.cohort.images.dicom_index import (
        READ_ERRORS,
        headers_if_dicom,
        index_folder,
        quiet_dicom,
        read_header,
    )
    from acfnet_core.cohort.images.dicom_series import read_dicom_series
    from acfnet_core.cohort.images.refusals import ScanRefusedError
    from acfnet_core.cohort.masks.nifti_contents import (
        NIFTI_ERRORS,
        read_nifti_contents,
    )
    from acfnet_core.cohort.masks.segment_counts import SEGMENT_ERRORS, count_segments
    from acfnet_core.cohort.masks.segmentation import read_segmentation
    from acfnet_core.cohort.table.clinical_table import examine_clinical_table
    from acfnet_core.errors import AcfnetError

CRLM = shipped_contract("crlm")
_PLACE = tempfile.TemporaryDirectory()
FOLDER = Path(_PLACE.name)


def header(content: bytes) -> None:
    """Read the header of a DICOM file."""
    path = FOLDER / "one.dcm"
    path.write_bytes(content)
    headers_if_dicom(path)
    with contextlib.suppress(*READ_ERRORS), quiet_dicom():
        read_header(path)


def series(content: bytes) -> None:
    """Index, judge and read a series, one of whose slices has any content."""
    folder = FOLDER / "series"
    if not folder.exists():
        write_series(make_series(num_slices=4), folder)
    (folder / "000-0.dcm").write_bytes(content)
    if CRLM.imaging is None:
        raise ValueError("the contract has images")
    for one in gate_index(index_folder(folder), CRLM.imaging):
        if one.is_accepted:
            with contextlib.suppress(ScanRefusedError):
                read_dicom_series(one)


def segmentation(content: bytes) -> None:
    """Count the segments of a DICOM SEG, and lay it on its CT."""
    folder = FOLDER / "drawn"
    if not folder.exists():
        write_series(make_series(), folder / "ct")
    path = folder / "seg.dcm"
    path.write_bytes(content)
    with contextlib.suppress(*SEGMENT_ERRORS), quiet_dicom():
        count_segments(path)
    _lay_on_ct(folder)


def structures(content: bytes) -> None:
    """Lay an RTSTRUCT on its CT."""
    segmentation_folder = FOLDER / "contoured"
    if not segmentation_folder.exists():
        write_series(make_series(), segmentation_folder / "ct")
    (segmentation_folder / "rt.dcm").write_bytes(content)
    _lay_on_ct(segmentation_folder)


def _lay_on_ct(folder: Path) -> None:
    if CRLM.imaging is None:
        raise ValueError("the contract has images")
    index = index_folder(folder)
    accepted = [one for one in gate_index(index, CRLM.imaging) if one.is_accepted]
    for one in accepted:
        volume = read_dicom_series(one)
        for file in index.segmentations:
            with contextlib.suppress(ScanRefusedError):
                read_segmentation(file, volume, CRLM.imaging)


def nifti(content: bytes) -> None:
    """Read the contents of a NIfTI file."""
    path = FOLDER / "seg.nii"
    path.write_bytes(content)
    with contextlib.suppress(*NIFTI_ERRORS):
        read_nifti_contents(path)


def csv_table(content: bytes) -> None:
    """Examine a clinical table."""
    _examine(content, "table.csv")


def xlsx_table(content: bytes) -> None:
    """Examine a workbook."""
    _examine(content, "table.xlsx")


def _examine(content: bytes, name: str) -> None:
    path = FOLDER / name
    path.write_bytes(content)
    with contextlib.suppress(AcfnetError):
        examine_clinical_table(path, CRLM)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "header": header,
    "series": series,
    "segmentation": segmentation,
    "structures": structures,
    "nifti": nifti,
    "csv": csv_table,
    "xlsx": xlsx_table,
}


def write_seeds(target: str, folder: Path) -> None:
    """Write sound files to begin from."""
    slices = make_series()
    if target in ("header", "series"):
        write_series(slices[:2], folder)
    elif target == "segmentation":
        for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
            masks = {"Liver": liver_box()}
            write_segmentation(slices, folder / f"{kind}.dcm", masks, kind=kind)
    elif target == "structures":
        write_structures(slices, folder / "rt.dcm", {"Liver": liver_contours()})
    elif target == "nifti":
        values = liver_box().astype(np.uint8)
        write_nifti(folder / "seg.nii", values, affine_of(slices))
    else:
        _write_table(folder / f"table.{target}")


def _write_table(path: Path) -> None:
    from openpyxl import Workbook

    rows = [list(CRLM.required_columns), ["1"] * len(CRLM.required_columns)]
    if path.suffix == ".csv":
        path.write_text("\n".join(",".join(row) for row in rows))
        return
    workbook = Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.save(path)


def main() -> None:
    """Run one target until the time is over or something comes out."""
    target = sys.argv[1]
    with tempfile.TemporaryDirectory() as seeds:
        write_seeds(target, Path(seeds))
        options = ["-rss_limit_mb=3072", "-timeout=30", "-max_len=65536"]
        atheris.Setup([sys.argv[0], *options, *sys.argv[2:], seeds], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
