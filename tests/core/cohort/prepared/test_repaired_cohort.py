"""A site that lets faults be mended, from its files to its store and back."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.mendable_series import FAULTS, lose_one
from references.shared_data import SHARED_DATA
from references.structure_sets import affine_of, write_nifti

from acfnet_core.cohort.check import check_cohort
from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.images.repairs import ALL_REPAIRS, NO_REPAIRS, Repairs
from acfnet_core.cohort.prepared.manifest import ScanRecord, read_manifest
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import CohortFinished
from acfnet_core.cohort.prepared.scan_source import find_scan, open_scan
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
LABELS = {1: ("Liver",)}


def _imaging() -> ImagingExpectations:
    assert CRLM.imaging is not None
    return CRLM.imaging


def _sources(
    folder: Path, patients: Sequence[str], repairs: Repairs = ALL_REPAIRS
) -> CohortSources:
    """Write the table of a site whose images lie in `images`."""
    rows = [
        {"Patient-ID": patient_id}
        | dict.fromkeys(CRLM.features, "1")
        | {"age": "50", "body_mass_index": "25.5", "clinrisk_score": "3"}
        | {"months_to_DFS_progression": "10", "vital_status_DFS": "1"}
        for patient_id in patients
    ]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path = folder / "clinical.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CohortSources(
        clinical_table=path,
        images_folder=folder / "images",
        nifti_labels=LABELS,
        repairs=repairs,
    )


def _write_patient(folder: Path, patient_id: str, *codes: str) -> None:
    """Write a series with faults, and what can be drawn on it then."""
    slices = make_series(patient_id)
    for code in codes:
        FAULTS[code](slices)
    place = folder / "images" / patient_id
    write_series(slices, place / "ct")
    if "EMPTY_UID" in codes:
        path = place / "ct" / "seg.nii.gz"
        write_nifti(path, liver_box(len(slices)), affine_of(slices))
    else:
        lost = [6] if "MISSING_SLICES" in codes else []
        drawn = np.delete(liver_box(), lost, axis=0)
        write_segmentation(slices, place / "seg.dcm", {"Liver": drawn})


def _prepare(sources: CohortSources, store: Path) -> CohortFinished:
    *_, last = prepare_cohort(CRLM, sources, store, pseudonym_key=KEY, num_workers=1)
    assert isinstance(last, CohortFinished)
    return last


def _only_scan(store: Path) -> ScanRecord:
    manifest = read_manifest(store)
    assert manifest is not None
    ((scan,),) = (patient.scans for patient in manifest.patients)
    return scan


MIXES: tuple[tuple[str, ...], ...] = (
    ("GANTRY_TILT",),
    ("MISSING_SLICES",),
    ("EMPTY_UID",),
    ("NO_PATIENT_ID",),
    ("GANTRY_TILT", "MISSING_SLICES", "NO_PATIENT_ID"),
    ("EMPTY_UID", "NO_PATIENT_ID"),
)


@pytest.mark.parametrize("codes", MIXES)
def test_what_was_mended_stands_in_the_manifest(
    codes: tuple[str, ...], tmp_path: Path
) -> None:
    _write_patient(tmp_path, "P-1", *codes)
    last = _prepare(_sources(tmp_path, ["P-1"]), tmp_path / "store")
    assert (last.num_scans, last.refused) == (1, {})
    assert sorted(_only_scan(tmp_path / "store").repairs) == sorted(codes)
    assert last.repaired == dict.fromkeys(sorted(codes), 1)


@pytest.mark.parametrize("codes", MIXES)
def test_a_mended_scan_is_found_again_with_its_repairs(
    codes: tuple[str, ...], tmp_path: Path
) -> None:
    _write_patient(tmp_path, "P-1", *codes)
    sources = _sources(tmp_path, ["P-1"])
    _prepare(sources, tmp_path / "store")
    record = _only_scan(tmp_path / "store")
    found = find_scan(
        tmp_path / "images",
        "P-1",
        record,
        _imaging(),
        nifti_labels=LABELS,
        repairs=ALL_REPAIRS,
    )
    opened = open_scan(tmp_path / "store", record, found, _imaging())
    assert np.array_equal(opened.masks["liver"], liver_box().astype(bool))


def test_a_mended_scan_is_not_found_without_its_repairs(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1", "GANTRY_TILT")
    _prepare(_sources(tmp_path, ["P-1"]), tmp_path / "store")
    record = _only_scan(tmp_path / "store")
    with pytest.raises(DataError) as caught:
        find_scan(tmp_path / "images", "P-1", record, _imaging())
    assert caught.value.code == "data.source_changed"


def test_repairs_that_are_not_needed_change_nothing(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1")
    for name, repairs in (("a", NO_REPAIRS), ("b", ALL_REPAIRS)):
        _prepare(_sources(tmp_path, ["P-1"], repairs), tmp_path / name)
    first, second = (_only_scan(tmp_path / name) for name in "ab")
    assert first == second
    assert first.repairs == ()


def test_a_repair_switched_off_takes_its_scan_out_again(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1", "MISSING_SLICES")
    sources, store = _sources(tmp_path, ["P-1"]), tmp_path / "store"
    assert _prepare(sources, store).num_scans == 1
    last = _prepare(replace(sources, repairs=NO_REPAIRS), store)
    assert (last.num_scans, last.refused) == (0, {"MISSING_SLICES": 1})
    assert not list(store.rglob("*.safetensors"))


def test_a_sound_series_is_taken_before_a_mended_one(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    sound, thinner = make_series("P-1"), make_series("P-1", number=1)
    for index, one in enumerate(thinner):
        x, y, z = map(float, one.ImagePositionPatient)
        one.ImagePositionPatient = [x, y, z - index]
    lose_one(thinner)
    for name, slices in (("sound", sound), ("thinner", thinner)):
        write_series(slices, folder / name)
        drawn = liver_box(len(slices))
        write_segmentation(slices, folder / f"{name}.dcm", {"Liver": drawn})
    _prepare(_sources(tmp_path, ["P-1"]), tmp_path / "store")
    assert _only_scan(tmp_path / "store").repairs == ()


def test_the_check_counts_what_would_be_mended(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1", "GANTRY_TILT")
    _write_patient(tmp_path, "P-2", "GANTRY_TILT", "NO_PATIENT_ID")
    _write_patient(tmp_path, "P-3")
    report = check_cohort(CRLM, _sources(tmp_path, ["P-1", "P-2", "P-3"]))
    images = report.images
    assert images is not None
    assert images.repaired_codes == {"GANTRY_TILT": 2, "NO_PATIENT_ID": 1}
    assert (images.series_codes, images.num_scans) == ({}, 3)
    assert report.meanings.keys() == images.repaired_codes.keys()


def test_a_manifest_from_before_repairs_is_read(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1")
    _prepare(_sources(tmp_path, ["P-1"]), tmp_path / "store")
    path = tmp_path / "store" / "manifest.json"
    content = json.loads(path.read_text())
    for patient in content["patients"]:
        for scan in patient["scans"]:
            del scan["repairs"]
    path.write_text(json.dumps(content))
    (patient,) = open_store(tmp_path / "store", contract=CRLM).patients
    assert patient.scans[0].repairs == ()


def test_nothing_is_written_beside_the_images(tmp_path: Path) -> None:
    _write_patient(tmp_path, "P-1", "EMPTY_UID", "NO_PATIENT_ID")
    before = _contents(tmp_path / "images")
    _prepare(_sources(tmp_path, ["P-1"]), tmp_path / "store")
    assert _contents(tmp_path / "images") == before


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_real_slices_without_uids_come_through_with_their_liver(
    tmp_path: Path,
) -> None:
    real = SHARED_DATA / "ct-totalsegmentator"
    if not real.is_dir():
        pytest.skip("the public CT and its mask are not beside this checkout")
    folder = tmp_path / "images" / "P1" / "series"
    shutil.copytree(real / "dicom", folder)
    shutil.copy(real / "example_seg_dicom.nii.gz", folder / "seg.nii.gz")
    sources = replace(_sources(tmp_path, ["P1"]), nifti_labels={5: ("Liver",)})
    last = _prepare(sources, tmp_path / "store")
    assert (last.num_scans, last.repaired) == (1, {"EMPTY_UID": 1, "NO_PATIENT_ID": 1})
    record = _only_scan(tmp_path / "store")
    found = find_scan(
        tmp_path / "images",
        "P1",
        record,
        _imaging(),
        nifti_labels={5: ("Liver",)},
        repairs=ALL_REPAIRS,
    )
    opened = open_scan(tmp_path / "store", record, found, _imaging())
    liver = opened.masks["liver"]
    assert np.count_nonzero(liver) == 366_708
    assert opened.volume.hu[liver].mean() == pytest.approx(89, abs=1)
