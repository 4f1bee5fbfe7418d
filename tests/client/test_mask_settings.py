from pathlib import Path

import pytest

from acf_client.data import data_sources
from acf_client.settings import settings_text
from acf_client.site import Site, initialise, open_site
from acfnet_core.errors import ConfigError


@pytest.fixture
def site(tmp_path: Path) -> Site:
    table = tmp_path / "clinical.csv"
    table.write_text("Patient-ID\n")
    return initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )


def _open_with(site: Site, labels: str) -> Site:
    path = site.folder / "site.toml"
    section = "[data.nifti_labels]\n"
    path.write_text(path.read_text().replace(section, f"{section}{labels}\n"))
    return open_site(site.folder)


def test_a_value_stands_for_one_segment_or_several(site: Site) -> None:
    opened = _open_with(site, '5 = "Liver"\n6 = ["Liver", "Tumor"]')
    assert data_sources(opened).nifti_labels == {5: ("Liver",), 6: ("Liver", "Tumor")}


def test_the_settings_are_written_as_they_were_read(site: Site) -> None:
    opened = _open_with(site, '5 = "Liver"\n6 = ["Liver", "Tumor"]')
    (site.folder / "site.toml").write_text(settings_text(opened.config))
    assert open_site(site.folder).config == opened.config


def test_a_new_site_has_no_labels(site: Site) -> None:
    assert data_sources(open_site(site.folder)).nifti_labels == {}


@pytest.mark.parametrize("line", ['0 = "Liver"', 'liver = "Liver"', '1 = ""', "1 = 2"])
def test_a_label_that_is_none_is_refused(site: Site, line: str) -> None:
    with pytest.raises(ConfigError, match="nifti_labels"):
        _open_with(site, line)
