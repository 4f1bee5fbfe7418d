"""Stores made of parts of other stores."""

from pathlib import Path

import numpy as np
import pytest
from references.planted_cohorts import plant_bright
from references.simulated_cohorts import make_records, table_contract

from acfnet_core.cohort.prepared.manifest import read_manifest
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.prepared.store_parts import StorePart, write_store
from acfnet_core.errors import DataError


def part_of(cohort: PreparedCohort, chosen: slice) -> StorePart:
    manifest = read_manifest(cohort.folder)
    assert manifest is not None
    return StorePart(cohort.folder, manifest.patients[chosen], manifest.reading_sha256)


def plant(folder: Path, *, seed: int) -> PreparedCohort:
    return plant_bright(
        folder, 4, seed=seed, image_effect=1.0, column_effect=0.0
    ).cohort


def test_patients_of_two_stores_come_one_behind_the_other(tmp_path: Path) -> None:
    parts = [StorePart(tmp_path, make_records(3, seed=seed), None) for seed in (1, 2)]
    folder = write_store(tmp_path / "both", parts, contract=table_contract())
    whole = open_store(folder, contract=table_contract())
    expected = [p.pseudonym for part in parts for p in part.patients]
    assert [p.pseudonym for p in whole.patients] == expected


def test_scans_are_read_from_the_store_that_has_them(tmp_path: Path) -> None:
    cohort = plant(tmp_path / "old", seed=1)
    part = part_of(cohort, slice(1, 3))
    folder = write_store(tmp_path / "new", [part], contract=cohort.contract)
    taken = open_store(folder, contract=cohort.contract)
    for patient, original in zip(taken.patients, cohort.patients[1:3], strict=True):
        scans, times, mask = taken.load_scans(patient)
        expected = cohort.load_scans(original)
        assert scans.size
        np.testing.assert_array_equal(scans, expected[0])
        np.testing.assert_array_equal(times, expected[1])
        np.testing.assert_array_equal(mask, expected[2])


def test_no_scan_is_copied(tmp_path: Path) -> None:
    cohort = plant(tmp_path / "old", seed=1)
    part = part_of(cohort, slice(None))
    folder = write_store(tmp_path / "new", [part], contract=cohort.contract)
    links = list((folder / "scans").iterdir())
    assert links
    assert all(link.is_symlink() for link in links)


def test_a_patient_in_two_parts_is_refused(tmp_path: Path) -> None:
    part = StorePart(tmp_path, make_records(3, seed=1), None)
    with pytest.raises(DataError) as refused:
        write_store(tmp_path / "both", [part, part], contract=table_contract())
    assert refused.value.code == "data.table_invalid"
    assert not (tmp_path / "both").exists()


def test_parts_that_were_read_alike_keep_the_reading(tmp_path: Path) -> None:
    part = StorePart(tmp_path, make_records(2, seed=1), "a" * 64)
    folder = write_store(tmp_path / "one", [part], contract=table_contract())
    assert open_store(folder, contract=table_contract()).reading_sha256 == "a" * 64


def test_parts_that_were_read_otherwise_have_no_reading(tmp_path: Path) -> None:
    parts = [
        StorePart(tmp_path, make_records(2, seed=seed), letter * 64)
        for seed, letter in ((1, "a"), (2, "b"))
    ]
    folder = write_store(tmp_path / "both", parts, contract=table_contract())
    assert open_store(folder, contract=table_contract()).reading_sha256 is None


def test_the_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    part = StorePart(tmp_path, make_records(2, seed=1), None)
    folder = write_store(tmp_path / "one", [part], contract=table_contract())
    modes = [path.stat().st_mode & 0o077 for path in (folder, folder / "manifest.json")]
    assert modes == [0, 0]


def test_a_damaged_scan_is_found_through_the_link(tmp_path: Path) -> None:
    cohort = plant(tmp_path / "old", seed=1)
    part = part_of(cohort, slice(None))
    folder = write_store(tmp_path / "new", [part], contract=cohort.contract)
    taken = open_store(folder, contract=cohort.contract)
    patient = next(p for p in taken.patients if p.scans)
    (cohort.folder / patient.scans[0].file).write_bytes(b"changed")
    with pytest.raises(DataError) as damaged:
        taken.load_scans(patient)
    assert damaged.value.code == "data.store_damaged"
