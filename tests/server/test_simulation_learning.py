"""What a simulated federation learns, beside all patients in one place."""

from pathlib import Path

import pytest
from references.planted_cohorts import plant_bright, planted_contract
from references.simulated_cohorts import write_run_toml, write_table

from acf_server.run_config import read_run_config
from acf_server.simulation import Simulation, Watchers, simulate
from acf_server.simulation_data import DividedTable, PreparedSites, SimulatedCohorts
from acf_server.simulation_result import SimulationResult
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.prepared.manifest import read_manifest
from acfnet_core.cohort.prepared.store_parts import StorePart, write_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.evaluation.verdict import Interval


def play(
    folder: Path, cohorts: SimulatedCohorts, *, rounds: int, compares: bool = True
) -> SimulationResult:
    simulation = Simulation(
        config=read_run_config(write_run_toml(folder, "trial", rounds=rounds)),
        cohorts=cohorts,
        folder=folder / "out",
        num_bootstrap=100,
        compares=compares,
    )
    return simulate(simulation, Watchers())


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """Four sites that differ in their outcomes."""
    folder = tmp_path_factory.mktemp("skewed")
    table = write_table(folder / "table.csv", 300, seed=11)
    cohorts = DividedTable(
        sources=CohortSources(clinical_table=table),
        contract="crlm",
        num_sites=4,
        split="label",
        concentration=1.0,
    )
    return play(folder, cohorts, rounds=5)


def c_of(result: SimulationResult, name: str) -> Interval:
    found = next(one.harrell_c for one in result.scores if one.name == name)
    assert found is not None
    return found


def test_four_sites_reach_the_pooled_model_within_its_interval(
    skewed: SimulationResult,
) -> None:
    assert skewed.reaches_pooled is True


def test_the_federated_model_ranks_better_than_chance(
    skewed: SimulationResult,
) -> None:
    low = c_of(skewed, "4D-ACFNet").low
    assert low is not None
    assert low > 0.5


def test_a_run_is_better_after_its_rounds_than_before(
    skewed: SimulationResult,
) -> None:
    first, *_, last = (judged.harrell_c or 0.0 for judged in skewed.by_round)
    assert last > first + 0.05


def test_scans_reach_the_training_through_every_division(tmp_path: Path) -> None:
    contract = planted_contract()
    plant_bright(tmp_path / "all", 32, seed=1, image_effect=1.0, column_effect=0.0)
    manifest = read_manifest(tmp_path / "all")
    assert manifest is not None
    sites = []
    for name, patients in (
        ("north", manifest.patients[:16]),
        ("south", manifest.patients[16:]),
    ):
        sites.append(tmp_path / name)
        part = StorePart(tmp_path / "all", patients, None)
        write_store(tmp_path / name / "prepared", [part], contract=contract)
        (tmp_path / name / "contract.toml").write_text(contract_to_toml(contract))
    cohorts = PreparedSites(folders=tuple(sites))
    result = play(tmp_path, cohorts, rounds=1, compares=False)
    assert [site.num_patients for site in result.sites] == [13, 13]
    assert result.scores[0].harrell_c is not None
