"""A run played on one machine, and what its model is compared with."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from references.simulated_cohorts import write_run_toml, write_site, write_table

from acf_server.coordinator import initialise, open_coordinator
from acf_server.report import write_report
from acf_server.run_config import read_run_config
from acf_server.run_events import RunEvent, RunFailed, RunFinished, read_events
from acf_server.run_files import read_run, read_sites, read_verdict
from acf_server.run_overview import overview_of
from acf_server.runs import find_run, list_runs
from acf_server.simulation import Simulation, Watchers, simulate
from acf_server.simulation_data import DividedTable, PreparedSites, SimulatedCohorts
from acf_server.simulation_result import SimulationResult
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.cohort.prepared.manifest import read_manifest
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import AcfnetError
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.parameters import FlatParameters, flatten
from acfnet_core.model.config import MODEL_NAME

NUM_PATIENTS = 75
NUM_HELD_OUT = 15
NAMES = ("pseudo-1", "pseudo-2", "pseudo-3")


@dataclass
class Played:
    """A simulation that has been played, and what was told of it."""

    folder: Path
    result: SimulationResult
    events: list[RunEvent] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)

    @property
    def run_folder(self) -> Path:
        return Path(self.result.run_folder)

    def pseudonyms(self, store: str) -> list[str]:
        path = self.folder / "simulated" / self.result.run / store
        manifest = read_manifest(path)
        assert manifest is not None
        return [patient.pseudonym for patient in manifest.patients]

    def final(self) -> FlatParameters:
        arrays, _ = load_checkpoint(self.run_folder, self.result.rounds)
        return flatten(arrays)


def table_of(folder: Path, num_patients: int = NUM_PATIENTS) -> DividedTable:
    path = write_table(folder / "table.csv", num_patients, seed=1)
    return DividedTable(
        sources=CohortSources(clinical_table=path), contract="crlm", num_sites=3
    )


def play(
    folder: Path,
    cohorts: SimulatedCohorts,
    *,
    further: str = "",
    compares: bool = True,
) -> Played:
    events: list[RunEvent] = []
    compared: list[str] = []
    config = read_run_config(write_run_toml(folder, "trial", further=further))
    out = folder / "out"
    result = simulate(
        Simulation(
            config=config,
            cohorts=cohorts,
            folder=out,
            num_bootstrap=20,
            compares=compares,
        ),
        Watchers(running=events.append, comparing=compared.append),
    )
    return Played(out, result, events, compared)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One table, over three sites that differ in their outcomes."""
    folder = tmp_path_factory.mktemp("divided")
    return play(folder, replace(table_of(folder), split="label", concentration=1.0))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Two prepared cohorts, one named by its folder and one by its store."""
    folder = tmp_path_factory.mktemp("given")
    north = write_site(folder / "north", 30, seed=1)
    south = write_site(folder / "south", 40, seed=2) / "prepared"
    return play(folder, PreparedSites(folders=(north, south)))


def test_the_sites_are_the_pseudo_sites(divided: Played) -> None:
    assert tuple(site.name for site in divided.result.sites) == NAMES
    assert [site.name for site in read_sites(divided.run_folder)] == list(NAMES)


def test_a_fifth_is_kept_back_and_seen_by_no_site(divided: Played) -> None:
    held_out = divided.pseudonyms("held-out")
    trained = divided.pseudonyms("pooled")
    assert len(held_out) == divided.result.num_held_out == NUM_HELD_OUT
    assert not set(held_out) & set(trained)
    assert len(set(held_out) | set(trained)) == NUM_PATIENTS


def test_pooled_are_the_patients_of_all_sites(divided: Played) -> None:
    of_sites = [
        pseudonym
        for name in NAMES
        for pseudonym in divided.pseudonyms(f"sites/{name}/prepared")
    ]
    assert of_sites == divided.pseudonyms("pooled")


def test_the_federated_model_stands_beside_pooled_and_local_ones(
    divided: Played,
) -> None:
    names = [model.name for model in divided.result.models]
    assert names == [MODEL_NAME, "pooled", *(f"{name} alone" for name in NAMES)]
    assert divided.compared == names[1:]
    scored = [score.name for score in divided.result.scores]
    assert scored[: len(names)] == names
    assert "ridge Cox" in scored
    assert "Kaplan-Meier" in scored


def test_pooled_takes_as_many_steps_as_all_sites_together(divided: Played) -> None:
    federated, pooled, *alone = divided.result.models
    assert pooled.num_steps == federated.num_steps
    assert sum(model.num_steps for model in alone) == pooled.num_steps


def test_every_figure_has_its_interval_and_number(divided: Played) -> None:
    for score in divided.result.scores:
        assert score.num_patients == NUM_HELD_OUT
        assert score.harrell_c is not None
        assert score.harrell_c.low is not None


def test_the_model_is_judged_after_every_round(divided: Played) -> None:
    assert [judged.round for judged in divided.result.by_round] == [0, 1, 2]
    last = divided.result.by_round[-1].harrell_c
    first_score = divided.result.scores[0].harrell_c
    assert first_score is not None
    assert last == first_score.estimate


def test_the_result_is_kept_with_the_run(divided: Played) -> None:
    text = (divided.run_folder / "simulation.json").read_text()
    assert SimulationResult.model_validate_json(text) == divided.result


def test_the_run_is_written_like_any_other(divided: Played) -> None:
    coordinator = open_coordinator(divided.folder)
    assert find_run(coordinator, "trial") == divided.run_folder
    assert [run.status for run in list_runs(coordinator)] == ["finished"]
    assert overview_of(divided.run_folder).rounds_done == 2


def test_events_are_told_as_they_are_written(divided: Played) -> None:
    assert divided.events == read_events(divided.run_folder)
    assert isinstance(divided.events[-1], RunFinished)


def test_the_report_has_every_model(divided: Played) -> None:
    page = write_report(divided.run_folder).read_text()
    assert all(model.name in page for model in divided.result.models)


def test_the_verdict_is_that_of_the_result(divided: Played) -> None:
    verdict = read_verdict(divided.run_folder)
    assert verdict is not None
    assert tuple(verdict.scores) == divided.result.scores


def test_counts_below_the_minimum_are_not_told(divided: Played) -> None:
    minimum = read_run(divided.run_folder).minimum_cell
    told = [site.num_events for site in divided.result.sites]
    assert all(count is None or count == 0 or count >= minimum for count in told)


def test_patients_are_for_their_owner_alone(divided: Played) -> None:
    top = divided.folder / "simulated"
    folders = [path for path in top.rglob("*") if path.is_dir()]
    manifests = list(top.rglob("manifest.json"))
    open_to_others = [
        path for path in (top, *folders, *manifests) if path.stat().st_mode & 0o077
    ]
    assert len(manifests) == len(NAMES) + 3
    assert open_to_others == []


def test_no_patient_is_named_in_the_run(divided: Played) -> None:
    canaries = divided.pseudonyms("pooled") + divided.pseudonyms("held-out")
    for path in divided.run_folder.glob("*.json*"):
        text = path.read_text()
        assert not [canary for canary in canaries if canary in text], path.name


def test_the_table_has_a_line_for_each_model(divided: Played) -> None:
    lines = list(divided.result.lines())
    for score in divided.result.scores:
        assert any(line.startswith(f"  {score.name} ") for line in lines)


def test_prepared_cohorts_are_the_sites_of_the_run(given: Played) -> None:
    assert [site.name for site in given.result.sites] == ["north", "south"]
    assert [site.num_patients for site in given.result.sites] == [24, 32]
    assert given.result.split == "given"


def test_a_part_of_every_prepared_cohort_is_kept_back(given: Played) -> None:
    held_out = given.pseudonyms("held-out")
    assert [sum(f"-{seed}-" in one for one in held_out) for seed in (1, 2)] == [6, 8]


def test_the_same_run_ends_with_the_same_bits(given: Played, tmp_path: Path) -> None:
    cohorts = tuple(given.folder.parent / name for name in ("north", "south"))
    again = play(tmp_path, PreparedSites(folders=cohorts), compares=False)
    np.testing.assert_array_equal(again.final(), given.final())
    assert again.result.scores[0] == given.result.scores[0]


def test_the_other_models_may_be_left_out(tmp_path: Path) -> None:
    played = play(tmp_path, table_of(tmp_path, 60), compares=False)
    assert [model.name for model in played.result.models] == [MODEL_NAME]
    assert played.compared == []
    assert played.result.reaches_pooled is None


def refusal(folder: Path, cohorts: SimulatedCohorts, further: str = "") -> AcfnetError:
    with pytest.raises(AcfnetError) as refused:
        play(folder, cohorts, further=further)
    return refused.value


def test_a_run_of_the_same_name_is_refused(divided: Played) -> None:
    folder = divided.folder.parent
    assert refusal(folder, table_of(folder)).code == "config.run_exists"


def test_a_coordinators_folder_is_refused(tmp_path: Path) -> None:
    contract = contract_to_toml(shipped_contract("crlm"))
    out = tmp_path / "out"
    initialise(out, consortium="crlm", address="a:1", contract_text=contract)
    error = refusal(tmp_path, table_of(tmp_path))
    assert error.code == "config.already_initialised"


def test_too_many_sites_are_refused_with_the_numbers(tmp_path: Path) -> None:
    error = refusal(tmp_path, replace(table_of(tmp_path), num_sites=9))
    assert error.code == "data.too_few_patients"
    assert "60 patients" in error.message
    assert "9 sites" in error.message


def test_a_strategy_that_needs_more_sites_is_refused(tmp_path: Path) -> None:
    further = '[strategy]\nname = "median"'
    path = write_run_toml(tmp_path, "trial")
    text = path.read_text().replace('"south"', '"south", "west"')
    path.write_text(text + further)
    config = read_run_config(path)
    cohorts = replace(table_of(tmp_path), num_sites=2)
    simulation = Simulation(config=config, cohorts=cohorts, folder=tmp_path / "out")
    with pytest.raises(AcfnetError, match=r"median .* needs 3 sites") as refused:
        simulate(simulation, Watchers())
    assert refused.value.code == "config.invalid"


def test_a_strategy_without_a_global_model_is_refused(tmp_path: Path) -> None:
    further = '[strategy]\nname = "local_only"'
    error = refusal(tmp_path, table_of(tmp_path), further)
    assert error.code == "config.invalid"
    assert "local_only" in error.message


def test_another_number_of_cohorts_than_sites_is_refused(tmp_path: Path) -> None:
    north = write_site(tmp_path / "north", 30, seed=1)
    error = refusal(tmp_path, PreparedSites(folders=(north,)))
    assert error.code == "config.invalid"
    assert "1 cohorts are given; run.toml names 2" in error.message


def test_a_cohort_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    north = write_site(tmp_path / "north", 30, seed=1)
    error = refusal(tmp_path, PreparedSites(folders=(north, north)))
    assert error.code == "data.table_invalid"


def test_a_cohort_of_another_contract_is_refused(tmp_path: Path) -> None:
    north = write_site(tmp_path / "north", 30, seed=1)
    south = write_site(tmp_path / "south", 30, seed=2)
    other = shipped_contract("crlm").without_imaging().with_features(["age"])
    (south / "contract.toml").write_text(contract_to_toml(other))
    error = refusal(tmp_path, PreparedSites(folders=(north, south)))
    assert error.code == "data.contract_mismatch"


def test_a_cohort_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    north = write_site(tmp_path / "north", 30, seed=1)
    south = write_site(tmp_path / "south", 30, seed=2)
    (south / "prepared" / "manifest.json").unlink()
    error = refusal(tmp_path, PreparedSites(folders=(north, south)))
    assert error.code == "data.not_prepared"


@pytest.fixture
def small_site(tmp_path: Path) -> PreparedSites:
    """Two cohorts of which one is below the minimum without its part kept back."""
    north = write_site(tmp_path / "north", 30, seed=1)
    return PreparedSites(folders=(north, write_site(tmp_path / "s", 11, seed=2)))


def test_a_cohort_below_the_minimum_is_refused(
    small_site: PreparedSites, tmp_path: Path
) -> None:
    error = refusal(tmp_path, small_site)
    assert error.code == "data.too_few_patients"
    assert error.message.startswith("south:")


def test_a_run_that_fails_is_written_down_as_failed(tmp_path: Path) -> None:
    # Of 13 patients a part is fewer than the minimum for training and validation.
    with pytest.raises(AcfnetError) as failed:
        play(tmp_path, table_of(tmp_path, 50), further="validation_share = 0.4")
    run_folder = tmp_path / "out" / "runs" / "trial"
    assert failed.value.code == "protocol.too_few_sites"
    assert "data.validation_too_small" in failed.value.message
    assert read_run(run_folder).status == "failed"
    assert isinstance(read_events(run_folder)[-1], RunFailed)


def test_who_interrupts_a_simulation_has_stopped_it(tmp_path: Path) -> None:
    def interrupt(event: RunEvent) -> None:
        raise KeyboardInterrupt

    config = read_run_config(write_run_toml(tmp_path, "trial"))
    out = tmp_path / "out"
    simulation = Simulation(config=config, cohorts=table_of(tmp_path), folder=out)
    with pytest.raises(KeyboardInterrupt):
        simulate(simulation, Watchers(running=interrupt))
    assert read_run(out / "runs" / "trial").status == "stopped"


def test_the_result_says_how_it_came_about(divided: Played) -> None:
    names = {"engine", "split", "concentration", "seed", "rounds"}
    assert divided.result.model_dump(include=names) == {
        "engine": "in-process",
        "split": "label",
        "concentration": 1.0,
        "seed": 3,
        "rounds": 2,
    }
