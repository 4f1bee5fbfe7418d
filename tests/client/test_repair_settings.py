from pathlib import Path

import pytest

from acf_client.data import data_sources
from acf_client.settings import settings_text
from acf_client.site import Site, initialise, open_site
from acfnet_core.cohort.images.repairs import NO_REPAIRS, Repairs
from acfnet_core.errors import ConfigError

SWITCHES = tuple(vars(NO_REPAIRS))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    table = tmp_path / "clinical.csv"
    table.write_text("Patient-ID\n")
    return initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )


def _switch(site: Site, name: str, value: str = "true") -> Site:
    path = site.folder / "site.toml"
    text = path.read_text()
    assert text.count(f"\n{name} = false\n") == 1
    path.write_text(text.replace(f"\n{name} = false\n", f"\n{name} = {value}\n"))
    return open_site(site.folder)


def test_a_new_site_mends_nothing(site: Site) -> None:
    assert data_sources(open_site(site.folder)).repairs == NO_REPAIRS


@pytest.mark.parametrize("name", SWITCHES)
def test_a_line_of_the_settings_switches_one_repair_on(name: str, site: Site) -> None:
    sources = data_sources(_switch(site, name))
    assert sources.repairs == Repairs(**{name: True})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_has_a_comment_of_one_line(name: str, site: Site) -> None:
    lines = (site.folder / "site.toml").read_text().splitlines()
    assert lines[lines.index(f"{name} = false") - 1].startswith("# ")


def test_the_settings_are_written_as_they_were_read(site: Site) -> None:
    opened = _switch(site, "missing_slices")
    (site.folder / "site.toml").write_text(settings_text(opened.config))
    assert open_site(site.folder).config == opened.config


@pytest.mark.parametrize("value", ["1", '"true"'])
def test_a_switch_is_true_or_false(value: str, site: Site) -> None:
    with pytest.raises(ConfigError, match="gantry_tilt"):
        _switch(site, "gantry_tilt", value)
