import json
from pathlib import Path

import pytest

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.mapping import AS_AGREED, TableDialect, TableMapping
from acfnet_core.errors import DataError

CONTRACT = shipped_contract("generic").without_imaging()
GERMAN = TableMapping(
    column_names={"Alter": "age"}, dialect=TableDialect(decimal_mark=",")
)
HEADER = (
    "patient_id;Alter;sex;num_metastases;max_metastasis_cm;carcinoembryonic_antigen;"
    "chemo_before_resection;time_months;event"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    table = tmp_path / "clinical.csv"
    table.write_text(f"{HEADER}\n1;60;m;1;2,5;3;0;12,5;1\n")
    sources = CohortSources(clinical_table=table, mapping=GERMAN)
    folder = tmp_path / "store"
    list(prepare_cohort(CONTRACT, sources, folder, pseudonym_key=b"k" * 32))
    return folder


def test_a_store_keeps_the_hash_of_its_mapping_alone(store: Path) -> None:
    text = (store / "manifest.json").read_text()
    assert json.loads(text)["mapping_sha256"] == GERMAN.sha256()
    assert "Alter" not in text


def test_a_store_opens_under_the_mapping_it_was_prepared_with(store: Path) -> None:
    cohort = open_store(store, contract=CONTRACT, mapping=GERMAN)
    assert cohort.mapping_sha256 == GERMAN.sha256()


@pytest.mark.parametrize("mapping", [AS_AGREED, TableMapping(dialect=GERMAN.dialect)])
def test_a_store_of_another_mapping_is_stale(
    store: Path, mapping: TableMapping
) -> None:
    with pytest.raises(DataError) as caught:
        open_store(store, contract=CONTRACT, mapping=mapping)
    assert caught.value.code == "data.mapping_changed"
    assert "data prepare` again" in caught.value.remedy


def test_a_store_that_does_not_say_its_mapping_is_stale(store: Path) -> None:
    path = store / "manifest.json"
    content = json.loads(path.read_text())
    del content["mapping_sha256"]
    path.write_text(json.dumps(content))
    assert open_store(store, contract=CONTRACT).mapping_sha256 is None
    with pytest.raises(DataError, match=r"\[data.table\] was changed"):
        open_store(store, contract=CONTRACT, mapping=AS_AGREED)
