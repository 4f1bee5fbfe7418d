"""Which options of `acf-server simulate` go together."""

from pathlib import Path
from typing import Any

import pytest

from acf_server.simulation_data import DividedTable, PreparedSites, SimulatedCohorts
from acf_server.simulation_options import choose_cohorts, choose_workers
from acfnet_core.errors import ConfigError, DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.touch()
    return path


def choose(**given: Any) -> SimulatedCohorts:
    options: dict[str, Any] = {
        "folders": (),
        "clinical": None,
        "images": None,
        "contract": None,
        "num_sites": None,
        "split": None,
        "skew": None,
        "sites_of_run": 3,
    }
    return choose_cohorts(**{**options, **given})


def refusal(**given: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        choose(**given)
    assert refused.value.code == "config.invalid"
    return refused.value.message


def test_a_table_is_divided_among_as_many_sites_as_the_run_names(table: Path) -> None:
    chosen = choose(clinical=table)
    assert isinstance(chosen, DividedTable)
    assert (chosen.num_sites, chosen.split, chosen.contract) == (3, "iid", "crlm")


def test_the_options_of_a_table_are_taken(table: Path) -> None:
    chosen = choose(clinical=table, num_sites=5, split="size", skew=0.3)
    assert isinstance(chosen, DividedTable)
    assert (chosen.num_sites, chosen.split) == (5, "size")
    assert chosen.concentration == 0.3


def test_a_table_may_be_described_by_a_file(table: Path) -> None:
    path = table.parent / "cohort.toml"
    path.write_text('[data]\nclinical_table = "table.csv"\n[data.columns]\nAlter="age"')
    chosen = choose(clinical=path)
    assert isinstance(chosen, DividedTable)
    assert chosen.sources.mapping.column_names == {"Alter": "age"}
    assert chosen.sources.clinical_table == table


def test_cohorts_keep_their_order() -> None:
    chosen = choose(folders=(Path("b"), Path("a")))
    assert chosen == PreparedSites(folders=(Path("b"), Path("a")))


def test_patients_are_given_in_one_way(table: Path) -> None:
    assert "either --cohort" in refusal()
    assert "either --cohort" in refusal(folders=(Path("a"),), clinical=table)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--images", {"images": Path("images")}),
        ("--contract", {"contract": "crlm"}),
        ("--sites", {"num_sites": 2}),
        ("--split", {"split": "label"}),
        ("--skew", {"skew": 0.5}),
    ],
)
def test_options_of_a_table_do_not_go_with_cohorts(
    option: str, given: dict[str, Any]
) -> None:
    assert option in refusal(folders=(Path("a"),), **given)


@pytest.mark.parametrize("split", [None, "iid"])
def test_sites_that_are_alike_have_no_skew(table: Path, split: str | None) -> None:
    assert "--skew" in refusal(clinical=table, split=split, skew=0.5)


@pytest.mark.parametrize("skew", [0.0, -1.0, float("nan"), float("inf")])
def test_a_skew_is_a_number_above_0(table: Path, skew: float) -> None:
    assert "--skew" in refusal(clinical=table, split="label", skew=skew)


def test_the_images_of_a_described_table_stand_in_its_file(tmp_path: Path) -> None:
    assert "--images" in refusal(clinical=tmp_path / "c.toml", images=tmp_path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        choose(clinical=tmp_path / "absent.csv")
    assert refused.value.code == "data.path_not_found"
    assert "absent.csv" in refused.value.message


def test_one_process_has_one_worker() -> None:
    assert choose_workers(None, engine="in-process") == 1
    with pytest.raises(ConfigError, match="--workers"):
        choose_workers(2, engine="in-process")


def test_ray_has_as_many_workers_as_asked() -> None:
    assert choose_workers(3, engine="ray") == 3
