from dataclasses import replace

import pytest
from references.federated_run import make_run, make_sites

from acf_server.run_files import SiteRecord, read_sites
from acfnet_core.cohort.table.mapping import AS_AGREED


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SiteRecord]:
    """The sites of a finished run: one that tells its mapping, and one that cannot."""
    sites = make_sites(("hospital-a", "hospital-b"))
    told = replace(sites.cohorts["hospital-a"], mapping_sha256=AS_AGREED.sha256())
    sites.cohorts["hospital-a"] = told
    folder = make_run(tmp_path_factory.mktemp("run"), sites).play().folder
    return {record.name: record for record in read_sites(folder)}


def test_a_runs_record_has_the_hash_of_each_sites_mapping(
    records: dict[str, SiteRecord],
) -> None:
    assert records["hospital-a"].mapping_sha256 == AS_AGREED.sha256()


def test_a_mapping_that_was_not_told_is_null(records: dict[str, SiteRecord]) -> None:
    assert records["hospital-b"].mapping_sha256 is None
