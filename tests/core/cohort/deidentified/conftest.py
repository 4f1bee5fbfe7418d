from pathlib import Path

import pytest
from references.planted_identifiers import Planter, plant_site

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.deidentified.export import ExportFinished, export_cohort
from acfnet_core.cohort.images.dicom_index import quiet_dicom
from acfnet_core.cohort.sources import CohortSources


@pytest.fixture(scope="package")
def planted(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[CohortSources, Planter]:
    """A site with identifiers in every place, and what was planted."""
    # pydicom remarks on values that no scanner would write.
    with quiet_dicom():
        return plant_site(tmp_path_factory.mktemp("planted"), shipped_contract("crlm"))


@pytest.fixture(scope="package")
def export(
    planted: tuple[CohortSources, Planter], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The export of the planted site, by a key of 32 k."""
    sources, _ = planted
    folder = tmp_path_factory.mktemp("out") / "copy"
    contract = shipped_contract("crlm")
    *_, finished = export_cohort(contract, sources, folder, site_key=b"k" * 32)
    assert isinstance(finished, ExportFinished)
    assert finished.ready.manifest.num_scans == 4
    assert finished.ready.left_out == {}
    return folder
