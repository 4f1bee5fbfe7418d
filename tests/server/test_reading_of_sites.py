import json
from dataclasses import replace

import pytest
from references.federated_run import InProcessSites, make_run, make_sites

from acf_server.answers import RawAnswer
from acf_server.run_files import SiteRecord, read_sites

READING = "5" * 64
SITES = ("hospital-a", "hospital-b")


@pytest.fixture(scope="module")
def sites() -> InProcessSites:
    """One site that tells how its files were read, and one that cannot."""
    sites = make_sites(SITES)
    told = replace(sites.cohorts["hospital-a"], reading_sha256=READING)
    sites.cohorts["hospital-a"] = told
    return sites


def records_of(
    sites: InProcessSites, folder: pytest.TempPathFactory
) -> dict[str, SiteRecord]:
    run = make_run(folder.mktemp("run"), sites, minimum_sites=1).play()
    return {record.name: record for record in read_sites(run.folder)}


@pytest.fixture(scope="module")
def records(
    sites: InProcessSites, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, SiteRecord]:
    return records_of(sites, tmp_path_factory)


def test_a_runs_record_has_the_hash_of_each_sites_reading(
    records: dict[str, SiteRecord],
) -> None:
    assert records["hospital-a"].reading_sha256 == READING


def test_a_reading_that_was_not_told_is_null(records: dict[str, SiteRecord]) -> None:
    assert records["hospital-b"].reading_sha256 is None


@pytest.mark.parametrize(
    ("site", "other"),
    [("hospital-a", "6" * 64), ("hospital-a", None), ("hospital-b", READING)],
)
def test_a_hash_that_was_changed_on_the_way_is_refused(
    sites: InProcessSites,
    tmp_path_factory: pytest.TempPathFactory,
    site: str,
    other: str | None,
) -> None:
    def change(raw: RawAnswer) -> RawAnswer:
        document = json.loads(raw.reply or "{}") | {"reading_sha256": other}
        return replace(raw, reply=json.dumps(document))

    tampered = records_of(replace(sites, tamper={site: change}), tmp_path_factory)
    assert set(tampered[site].rounds_failed) == {"protocol.signature_invalid"}
    assert tampered[site].reading_sha256 is None
