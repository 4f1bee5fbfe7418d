"""Patients without an outcome, from the table to the prepared store."""

import json
import shutil
from collections.abc import Mapping, Sequence
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

from acfnet_core.cohort.check import CheckReport, check_cohort, require_ready
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.dataset import collate_inputs
from acfnet_core.cohort.prepared.preparation import (
    make_pseudonym,
    prepare_cohort,
)
from acfnet_core.cohort.prepared.preparation_events import CohortFinished, SourcesRead
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store, summarise
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
SCANNED, UNSCANNED, OTHER = "CANARY-001", "CANARY-002", "CANARY-000"
KNOWN = {"months_to_DFS_progression": "14", "vital_status_DFS": "1"}
UNKNOWN: Mapping[str, str] = dict.fromkeys(KNOWN, "-999")


def write_table(path: Path, outcomes: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a table of these patients, with or without an outcome."""
    rows: Sequence[dict[str, str]] = [
        {
            "Patient-ID": patient_id,
            **dict.fromkeys(CRLM.features, "1"),
            "age": str(50 + number),
            "body_mass_index": "25.5",
            **outcome,
            "date_of_liver_resection": "1992-06-20",
        }
        for number, (patient_id, outcome) in enumerate(outcomes.items())
    ]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    slices = make_series(SCANNED, study_date="19920606")
    write_segmentation(slices, folder / "seg" / "1.dcm", {"Liver": liver_box()})
    write_series(slices, folder / "ct")
    return folder


def prepare(sources: CohortSources, store: Path) -> tuple[SourcesRead, CohortFinished]:
    events = list(
        prepare_cohort(CRLM, sources, store, pseudonym_key=KEY, num_workers=1)
    )
    first, last = events[0], events[-1]
    assert isinstance(first, SourcesRead)
    assert isinstance(last, CohortFinished)
    return first, last


@pytest.fixture(scope="module")
def sources(images: Path, tmp_path_factory: pytest.TempPathFactory) -> CohortSources:
    """A patient with an outcome; of two without, one has a scan."""
    path = tmp_path_factory.mktemp("table") / "clinical.csv"
    outcomes = {UNSCANNED: UNKNOWN, OTHER: KNOWN, SCANNED: UNKNOWN}
    return CohortSources(
        clinical_table=write_table(path, outcomes), images_folder=images
    )


@pytest.fixture(scope="module")
def store(sources: CohortSources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "store"
    prepare(sources, folder)
    return folder


@pytest.fixture
def cohort(store: Path) -> PreparedCohort:
    return open_store(store, contract=CRLM)


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "copy"))


def test_they_stand_apart_in_the_order_of_their_identifiers(
    cohort: PreparedCohort,
) -> None:
    assert [p.pseudonym for p in cohort.patients] == [make_pseudonym(KEY, OTHER)]
    expected = [make_pseudonym(KEY, one) for one in (SCANNED, UNSCANNED)]
    assert [p.pseudonym for p in cohort.without_outcome] == expected


def test_they_have_no_outcome_to_misread(cohort: PreparedCohort) -> None:
    names = {"time_months", "event", "fong_score"}
    assert all(names.isdisjoint(vars(patient)) for patient in cohort.without_outcome)


def test_their_scans_are_prepared(cohort: PreparedCohort) -> None:
    assert [len(p.scans) for p in cohort.without_outcome] == [1, 0]
    batch = collate_inputs(cohort, cohort.without_outcome)
    assert batch.scans.shape == (2, 1, 4, 24, 48, 48)
    assert batch.scans[0].any()
    assert batch.scan_mask.tolist() == [[True], [False]]


def test_their_scans_are_dated_from_the_resection(cohort: PreparedCohort) -> None:
    (scan,) = cohort.without_outcome[0].scans
    assert scan.time_months == pytest.approx(-14 / 30.4375)


def test_they_are_prepared_as_they_would_be_with_an_outcome(
    cohort: PreparedCohort, images: Path, tmp_path: Path
) -> None:
    outcomes = {UNSCANNED: KNOWN, OTHER: KNOWN, SCANNED: KNOWN}
    path = write_table(tmp_path / "clinical.csv", outcomes)
    prepare(CohortSources(clinical_table=path, images_folder=images), tmp_path / "s")
    known = open_store(tmp_path / "s", contract=CRLM).patients[1]
    found = cohort.without_outcome[0]
    assert found.scans == known.scans
    np.testing.assert_array_equal(found.clinical, known.clinical)
    np.testing.assert_array_equal(found.clinical_mask, known.clinical_mask)


def test_preparing_tells_them_apart_from_the_patients(
    sources: CohortSources, tmp_path: Path
) -> None:
    first, last = prepare(sources, tmp_path)
    assert (first.num_patients, first.num_without_outcome) == (1, 2)
    assert first.num_scans_planned == 1
    assert (last.num_patients, last.num_with_scans, last.num_scans) == (1, 0, 0)
    assert (last.num_without_outcome, last.num_scans_without_outcome) == (2, 1)


def test_preparing_again_keeps_their_scans(
    sources: CohortSources, copied: Path
) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*.*")}
    prepare(sources, copied)
    assert {path: path.read_bytes() for path in copied.rglob("*.*")} == before


def test_an_outcome_that_becomes_known_moves_the_patient(
    sources: CohortSources, images: Path, copied: Path, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "clinical.csv", {SCANNED: KNOWN})
    prepare(replace(sources, clinical_table=path), copied)
    cohort = open_store(copied, contract=CRLM)
    assert [p.pseudonym for p in cohort.patients] == [make_pseudonym(KEY, SCANNED)]
    assert cohort.without_outcome == ()


def test_no_count_that_may_leave_the_site_knows_of_them(
    cohort: PreparedCohort,
) -> None:
    contract = CRLM.model_copy(update={"minimum_cell": 1})
    cohort = replace(cohort, contract=contract)
    without = replace(cohort, without_outcome=())
    assert summarise(cohort) == summarise(without)
    assert summarise(cohort).num_patients == 1


def test_a_manifest_of_an_earlier_version_opens_without_them(copied: Path) -> None:
    path = copied / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["without_outcome"]
    path.write_text(json.dumps(content))
    cohort = open_store(copied, contract=CRLM)
    assert (len(cohort.patients), cohort.without_outcome) == (1, ())


def test_an_outcome_in_their_part_of_the_manifest_is_refused(copied: Path) -> None:
    path = copied / "manifest.json"
    content = json.loads(path.read_bytes())
    content["without_outcome"][0] |= {"time_months": 0.0, "event": 0}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        open_store(copied, contract=CRLM)
    assert caught.value.code == "data.store_damaged"


def test_columns_of_another_contract_are_refused(copied: Path) -> None:
    path = copied / "manifest.json"
    content = json.loads(path.read_bytes())
    content["without_outcome"][0]["clinical"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        open_store(copied, contract=CRLM)
    assert caught.value.code == "data.store_damaged"


@pytest.fixture(scope="module")
def nobody_known(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> CohortSources:
    """A site that only wants to predict."""
    path = tmp_path_factory.mktemp("table") / "clinical.csv"
    outcomes = {SCANNED: UNKNOWN, OTHER: UNKNOWN}
    return CohortSources(
        clinical_table=write_table(path, outcomes), images_folder=images
    )


def test_a_site_without_any_outcome_is_prepared(
    nobody_known: CohortSources, tmp_path: Path
) -> None:
    _, last = prepare(nobody_known, tmp_path)
    assert (last.num_patients, last.num_without_outcome) == (0, 2)
    cohort = open_store(tmp_path, contract=CRLM)
    assert (len(cohort.patients), len(cohort.without_outcome)) == (0, 2)
    assert summarise(cohort).num_patients is None


def report_of(sources: CohortSources) -> CheckReport:
    report = check_cohort(CRLM, sources)
    require_ready(report)
    assert report.is_ready
    return report


def test_the_check_counts_them_and_their_scans(sources: CohortSources) -> None:
    report = report_of(sources)
    assert (report.table.num_patients, report.table.num_without_outcome) == (1, 2)
    assert report.images is not None
    assert (report.images.num_scans, report.images.num_patients_with_scans) == (1, 1)
    assert report.images.num_patients_not_in_table == 0


def test_the_check_of_a_site_without_any_outcome_is_ready(
    nobody_known: CohortSources,
) -> None:
    assert report_of(nobody_known).table.num_patients == 0
