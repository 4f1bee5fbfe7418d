import base64
import hashlib
import hmac
import json
import logging
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from references.ct_series import (
    PATIENT_NAME,
    SHAPE,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acfnet_core.cohort.check import check_cohort
from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.dataset import collate
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.prepared.manifest import read_manifest, spec_of
from acfnet_core.cohort.prepared.preparation import (
    make_pseudonym,
    prepare_cohort,
)
from acfnet_core.cohort.prepared.preparation_events import (
    CohortFinished,
    PatientPrepared,
    PreparationEvent,
    StudyRefused,
)
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store, summarise
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError, MachineError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
PATIENTS = ("CANARY-003", "CANARY-001", "CANARY-002", "CANARY-004")
"""In the table's order: two scans; one refused; one; none."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A made-up site's files."""

    folder: Path

    @property
    def sources(self) -> CohortSources:
        return CohortSources(
            clinical_table=self.folder / "clinical.csv",
            images_folder=self.folder / "images",
        )


def _write_table(path: Path, *, resection: str = "1992-06-20") -> None:
    rows = []
    for number, patient_id in enumerate(PATIENTS):
        values = dict.fromkeys(CRLM.features, "1") | {
            "age": str(50 + number),
            "body_mass_index": "25.5",
        }
        outcome = {"months_to_DFS_progression": str(10 + number)}
        rows.append(
            {"Patient-ID": patient_id}
            | values
            | outcome
            | {
                "vital_status_DFS": str(number % 2),
                "clinrisk_score": "-999" if number else "3",
                "date_of_liver_resection": resection,
                "relevant_notes": f"written by {PATIENT_NAME}",
            }
        )
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_scan(folder: Path, patient_id: str, date: str, *, drop: int = 0) -> None:
    slices = make_series(patient_id, study_date=date)
    masks = {"Liver": liver_box(), "Tumor_1": np.zeros(SHAPE, np.uint8)}
    masks["Tumor_1"][5, 12:16, 10:14] = 1
    write_segmentation(slices, folder / date / "seg" / "1.dcm", masks)
    write_series(slices[:5] + slices[5 + drop :], folder / date / "ct")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    _write_table(folder / "clinical.csv")
    images = folder / "images"
    _write_scan(images / "a", PATIENTS[0], "19920606")
    _write_scan(images / "a", PATIENTS[0], "19911206")
    _write_scan(images / "b", PATIENTS[1], "19920606", drop=1)
    _write_scan(images / "c", PATIENTS[2], "19920601")
    return Site(folder=folder)


def _prepare(
    site: Site,
    store: Path,
    *,
    contract: DataContract = CRLM,
    key: bytes = KEY,
    num_workers: int = 1,
) -> list[PreparationEvent]:
    return list(
        prepare_cohort(
            contract, site.sources, store, pseudonym_key=key, num_workers=num_workers
        )
    )


@pytest.fixture(scope="module")
def store(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "store"
    _prepare(site, folder)
    return folder


@pytest.fixture
def cohort(store: Path) -> PreparedCohort:
    return open_store(store, contract=CRLM)


def test_patients_stand_in_the_order_of_their_identifiers(
    cohort: PreparedCohort,
) -> None:
    expected = [make_pseudonym(KEY, one) for one in sorted(PATIENTS)]
    assert [patient.pseudonym for patient in cohort.patients] == expected


def test_the_order_is_the_same_under_another_key(
    site: Site, cohort: PreparedCohort, tmp_path: Path
) -> None:
    _prepare(site, tmp_path, key=b"other" * 8)
    other = open_store(tmp_path, contract=CRLM)
    assert [p.time_months for p in other.patients] == [
        p.time_months for p in cohort.patients
    ]


def test_a_pseudonym_is_a_keyed_hash() -> None:
    digest = hmac.new(KEY, b"patient:7", hashlib.sha256).digest()
    expected = base64.b32encode(digest).decode().lower()[:32]
    assert make_pseudonym(KEY, "7") == expected


def test_a_scan_leads_whoever_has_the_key_back_to_its_files(
    site: Site, store: Path
) -> None:
    index = index_folder(site.folder / "images")
    expected = {
        _keyed(f"series:{headers[0].series_uid}") for headers in index.ct_series
    } | {_keyed(f"segmentation:{seg.sop_instance_uid}") for seg in index.segmentations}
    manifest = read_manifest(store)
    assert manifest is not None
    scans = [scan for patient in manifest.patients for scan in patient.scans]
    assert [len(scan.sources) for scan in scans] == [2, 2, 2]
    assert {source for scan in scans for source in scan.sources} < expected
    written = (store / "manifest.json").read_text()
    assert not any(headers[0].series_uid in written for headers in index.ct_series)


def test_the_manifest_has_the_hash_of_what_decides_the_voxels(store: Path) -> None:
    manifest = read_manifest(store)
    assert manifest is not None
    assert CRLM.imaging is not None
    assert manifest.spec_sha256 == spec_of(CRLM.imaging)


def _keyed(text: str) -> str:
    digest = hmac.new(KEY, text.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()[:32]


def test_a_patient_whose_images_are_refused_stays_in(cohort: PreparedCohort) -> None:
    assert [len(patient.scans) for patient in cohort.patients] == [0, 1, 2, 0]


def test_refusals_are_counted_by_code(cohort: PreparedCohort) -> None:
    assert cohort.refused == {"MISSING_SLICES": 1}


def test_scans_are_dated_from_the_resection(cohort: PreparedCohort) -> None:
    times = [scan.time_months for scan in cohort.patients[2].scans]
    np.testing.assert_allclose(times, [-197 / 30.4375, -14 / 30.4375])


def test_the_fong_score_is_kept_where_it_is_known(cohort: PreparedCohort) -> None:
    assert [p.fong_score for p in cohort.patients] == [None, None, 3.0, None]


def test_a_scan_has_ct_masks_and_no_invented_channel(cohort: PreparedCohort) -> None:
    scans, times, channels = cohort.load_scans(cohort.patients[2])
    assert scans.shape == (2, 4, 24, 48, 48)
    assert times.dtype == scans.dtype == np.float32
    assert channels.tolist() == [[True, True, True, False]] * 2
    assert scans[0, 1].any()
    assert not scans[0, 3].any()


def test_preparing_twice_makes_the_same_bytes(
    site: Site, store: Path, tmp_path: Path
) -> None:
    _prepare(site, tmp_path)
    for path in sorted(store.rglob("*.*")):
        same = tmp_path / path.relative_to(store)
        assert same.read_bytes() == path.read_bytes()


def test_preparing_again_reuses_every_scan(site: Site, tmp_path: Path) -> None:
    _prepare(site, tmp_path)
    events = _prepare(site, tmp_path)
    done = [event for event in events if isinstance(event, PatientPrepared)]
    assert [event.num_reused for event in done] == [0, 1, 2, 0]


def test_a_damaged_scan_is_prepared_again(site: Site, tmp_path: Path) -> None:
    _prepare(site, tmp_path)
    path = next(tmp_path.rglob("*.safetensors"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _prepare(site, tmp_path)
    assert path.read_bytes() == whole


def test_scans_of_withdrawn_patients_are_removed(site: Site, tmp_path: Path) -> None:
    _prepare(site, tmp_path, key=b"former key of the site")
    former = set(tmp_path.rglob("*.safetensors"))
    _prepare(site, tmp_path)
    assert former.isdisjoint(tmp_path.rglob("*.safetensors"))


def test_two_processes_prepare_the_same(
    site: Site, store: Path, tmp_path: Path
) -> None:
    _prepare(site, tmp_path, num_workers=2)
    manifest = (store / "manifest.json").read_bytes()
    assert (tmp_path / "manifest.json").read_bytes() == manifest


def test_an_error_of_another_process_keeps_its_code(site: Site, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    in_the_way = tmp_path / "scans" / make_pseudonym(KEY, PATIENTS[0])
    in_the_way.write_text("a file where a folder must be")
    with pytest.raises(MachineError) as caught:
        _prepare(site, tmp_path, num_workers=2)
    assert caught.value.code == "machine.folder_unwritable"
    assert str(in_the_way) in caught.value.message
    assert caught.value.remedy.startswith("Choose a folder")


def test_another_contract_is_refused_until_prepared(site: Site, tmp_path: Path) -> None:
    _prepare(site, tmp_path)
    other = CRLM.with_features(["age", "sex"])
    with pytest.raises(DataError) as caught:
        open_store(tmp_path, contract=other)
    assert caught.value.code == "data.contract_mismatch"
    _prepare(site, tmp_path, contract=other)
    patient = open_store(tmp_path, contract=other).patients[0]
    assert patient.clinical.shape == (2,)


def test_a_folder_without_manifest_is_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_store(tmp_path, contract=CRLM)
    assert caught.value.code == "data.not_prepared"


def _flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [_flip_last_byte, _cut_in_half, Path.unlink])
def test_a_damaged_scan_is_refused_on_opening(
    harm: Callable[[Path], None], site: Site, tmp_path: Path
) -> None:
    _prepare(site, tmp_path)
    cohort = open_store(tmp_path, contract=CRLM)
    harm(tmp_path / cohort.patients[1].scans[0].file)
    with pytest.raises(DataError) as caught:
        cohort.load_scans(cohort.patients[1])
    assert caught.value.code == "data.store_damaged"


def test_a_damaged_manifest_is_refused_without_its_values(
    site: Site, tmp_path: Path
) -> None:
    _prepare(site, tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_bytes())
    content["patients"][0]["time_months"] = "CANARY"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        open_store(tmp_path, contract=CRLM)
    assert caught.value.code == "data.store_damaged"
    assert caught.value.__cause__ is None
    assert "CANARY" not in str(caught.value)


def test_nothing_shows_a_patient(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        events = _prepare(site, tmp_path)
        report = check_cohort(CRLM, site.sources)
    texts = [repr(events), report.model_dump_json(), caplog.text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() + str(path).encode() for path in files)
    everything = "".join(texts).encode() + written
    for planted in ("CANARY", "Canary", "19920606", "1992-06-20"):
        assert planted.encode() not in everything


def test_the_store_is_private(store: Path) -> None:
    for path in store.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_the_last_event_tells_the_counts(site: Site, tmp_path: Path) -> None:
    last = _prepare(site, tmp_path)[-1]
    assert isinstance(last, CohortFinished)
    assert (last.num_patients, last.num_events) == (4, 2)
    assert (last.num_with_scans, last.num_scans, last.num_scans_assumed) == (2, 3, 0)


def _other_table(site: Site, folder: Path, resection: str) -> CohortSources:
    path = folder / "clinical.csv"
    _write_table(path, resection=resection)
    return CohortSources(clinical_table=path, images_folder=site.sources.images_folder)


def _last_event(sources: CohortSources, store: Path) -> CohortFinished:
    events = list(
        prepare_cohort(CRLM, sources, store, pseudonym_key=KEY, num_workers=1)
    )
    assert isinstance(events[-1], CohortFinished)
    return events[-1]


def test_a_scan_after_the_resection_is_not_used(site: Site, tmp_path: Path) -> None:
    sources = _other_table(site, tmp_path, "1992-06-03")
    last = _last_event(sources, tmp_path / "store")
    assert last.num_scans == 2
    assert last.refused == {"MISSING_SLICES": 1, "SCAN_AFTER_RESECTION": 1}


def test_without_a_resection_date_the_last_scan_is_at_zero(
    site: Site, tmp_path: Path
) -> None:
    sources = _other_table(site, tmp_path, "-999")
    last = _last_event(sources, tmp_path / "store")
    assert last.num_scans_assumed == 3
    cohort = open_store(tmp_path / "store", contract=CRLM)
    times = [scan.time_months for scan in cohort.patients[2].scans]
    np.testing.assert_allclose(times, [-183 / 30.4375, 0.0])


def test_images_of_unknown_patients_alone_are_an_error(
    site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "clinical.csv"
    _write_table(path)
    path.write_text(path.read_text().replace("CANARY-00", "CANARY-"))
    sources = CohortSources(
        clinical_table=path, images_folder=site.sources.images_folder
    )
    with pytest.raises(DataError, match="none of the 3 patients in the images") as info:
        _last_event(sources, tmp_path / "store")
    assert info.value.code == "data.nothing_usable"


def test_a_table_alone_is_prepared_without_images(site: Site, tmp_path: Path) -> None:
    contract = CRLM.without_imaging()
    _prepare(site, tmp_path, contract=contract)
    cohort = open_store(tmp_path, contract=contract)
    assert collate(cohort, [0, 1]).scans.shape == (2, 0, 4, 24, 48, 48)


def test_a_refusal_names_the_row_of_the_table(site: Site, tmp_path: Path) -> None:
    refused = [e for e in _prepare(site, tmp_path) if isinstance(e, StudyRefused)]
    assert refused == [StudyRefused(row_number=3, codes=("MISSING_SLICES",))]


def test_a_short_pseudonym_key_is_a_mistake(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bytes or more"):
        _prepare(site, tmp_path, key=b"short")


def test_a_batch_is_padded_and_masked(cohort: PreparedCohort) -> None:
    batch = collate(cohort, [2, 0, 1])
    assert batch.scans.shape == (3, 2, 4, 24, 48, 48)
    assert batch.scan_mask.tolist() == [[True, True], [False, False], [True, False]]
    assert not batch.scans[1].any()
    assert not batch.channel_mask[2, 1].any()
    assert batch.event.tolist() == [0, 1, 0]
    assert batch.time_months.tolist() == [10.0, 11.0, 12.0]


def test_a_patient_is_the_same_in_every_batch(cohort: PreparedCohort) -> None:
    alone, together = collate(cohort, [1]), collate(cohort, [2, 1])
    assert alone.scans[0, 0].equal(together.scans[1, 0])
    assert alone.clinical[0].equal(together.clinical[1])


def test_an_empty_batch_is_a_mistake(cohort: PreparedCohort) -> None:
    with pytest.raises(ValueError, match="at least one patient"):
        collate(cohort, [])


def test_counts_below_the_minimum_cell_are_withheld(cohort: PreparedCohort) -> None:
    summary = summarise(cohort)
    assert summary.num_patients is None
    assert summary.num_events is None
    assert summary.num_scans is None


def test_counts_from_the_minimum_cell_on_are_told(site: Site, tmp_path: Path) -> None:
    contract = CRLM.model_copy(update={"minimum_cell": 2})
    _prepare(site, tmp_path, contract=contract)
    summary = summarise(open_store(tmp_path, contract=contract))
    assert (summary.num_patients, summary.num_events) == (4, 2)
    assert summary.num_with_scans == 2


def test_scans_are_told_where_nobody_stands_out(
    cohort: PreparedCohort,
) -> None:
    scan = cohort.patients[1].scans[0]
    contract = CRLM.model_copy(update={"minimum_cell": 3})

    def told(*counts: int) -> int | None:
        patients = tuple(
            replace(cohort.patients[1], scans=(scan,) * count) for count in counts
        )
        changed = replace(cohort, contract=contract, patients=patients)
        return summarise(changed).num_scans

    assert told(*[1] * 4, *[2] * 3) == 10
    assert told(*[2] * 4) == 8
    assert told(*[1] * 4, 2) is None
    assert told(1, *[2] * 4) is None
    assert told(*[1] * 4, *[2] * 3, 3) is None


def test_scans_are_withheld_with_the_patients_who_have_them(
    cohort: PreparedCohort,
) -> None:
    """Two of 40 patients have three scans each, and six is above the minimum."""
    scan = cohort.patients[1].scans[0]
    without = replace(cohort.patients[1], scans=())
    scanned = replace(cohort.patients[1], scans=(scan,) * 3)
    patients = (*[without] * 38, *[scanned] * 2)
    contract = CRLM.model_copy(update={"minimum_cell": 3})
    summary = summarise(replace(cohort, contract=contract, patients=patients))
    assert (summary.num_patients, summary.num_with_scans) == (40, None)
    assert summary.num_scans is None


def test_the_check_counts_what_preparing_finds(site: Site) -> None:
    report = check_cohort(CRLM, site.sources)
    assert report.is_ready
    assert report.images is not None
    assert (report.images.num_series, report.images.num_series_accepted) == (4, 3)
    assert report.images.study_codes == {"MISSING_SLICES": 1}
    assert report.images.num_scans == 3
    assert report.meanings == {"MISSING_SLICES": "slices are missing in between"}


def test_the_check_reports_faulty_cells_instead_of_raising(
    site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "clinical.csv"
    _write_table(path)
    path.write_text(path.read_text().replace(",25.5,", ",CANARY,"))
    sources = CohortSources(clinical_table=path)
    report = check_cohort(CRLM, sources)
    assert not report.is_ready
    assert [(f.rule, f.count) for f in report.table.faults] == [("not_a_number", 4)]
    assert "CANARY" not in report.model_dump_json()
