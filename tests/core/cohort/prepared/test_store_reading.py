import json
from dataclasses import replace
from pathlib import Path

import pytest

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.repairs import Repairs
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.mapping import TableDialect, TableMapping
from acfnet_core.errors import DataError

CONTRACT = shipped_contract("generic").without_imaging()
GERMAN = TableMapping(
    column_names={"Alter": "age"}, dialect=TableDialect(decimal_mark=",")
)
TABLE = Path("clinical.csv")
AS_AGREED = CohortSources(clinical_table=TABLE)
READ = CohortSources(clinical_table=TABLE, mapping=GERMAN)
HEADER = (
    "patient_id;Alter;sex;num_metastases;max_metastasis_cm;carcinoembryonic_antigen;"
    "chemo_before_resection;time_months;event"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    table = tmp_path / TABLE
    table.write_text(f"{HEADER}\n1;60;m;1;2,5;3;0;12,5;1\n")
    sources = replace(READ, clinical_table=table)
    folder = tmp_path / "store"
    list(prepare_cohort(CONTRACT, sources, folder, pseudonym_key=b"k" * 32))
    return folder


def test_a_store_keeps_the_hash_of_its_reading_alone(store: Path) -> None:
    text = (store / "manifest.json").read_text()
    assert json.loads(text)["reading_sha256"] == READ.reading_sha256()
    assert "Alter" not in text


def test_a_store_opens_under_the_reading_it_was_prepared_with(store: Path) -> None:
    reading = READ.reading_sha256()
    cohort = open_store(store, contract=CONTRACT, reading_sha256=reading)
    assert cohort.reading_sha256 == reading


@pytest.mark.parametrize(
    "sources",
    [
        AS_AGREED,
        replace(READ, mapping=TableMapping(dialect=GERMAN.dialect)),
        replace(READ, nifti_labels={1: ("Liver",)}),
        replace(READ, repairs=Repairs(gantry_tilt=True)),
    ],
)
def test_a_store_of_another_reading_is_stale(
    store: Path, sources: CohortSources
) -> None:
    with pytest.raises(DataError) as caught:
        open_store(store, contract=CONTRACT, reading_sha256=sources.reading_sha256())
    assert caught.value.code == "data.reading_changed"
    assert "data prepare` again" in caught.value.remedy


def test_a_store_that_does_not_say_its_reading_is_stale(store: Path) -> None:
    path = store / "manifest.json"
    content = json.loads(path.read_text())
    del content["reading_sha256"]
    path.write_text(json.dumps(content))
    assert open_store(store, contract=CONTRACT).reading_sha256 is None
    with pytest.raises(DataError, match=r"\[data.repairs\] was changed"):
        open_store(store, contract=CONTRACT, reading_sha256=AS_AGREED.reading_sha256())
