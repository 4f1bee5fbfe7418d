"""A run over twelve years, of which no site followed anybody to the end."""

from dataclasses import replace
from pathlib import Path

import pytest
from references.cohorts import make_cohort
from references.federated_run import SITES, make_run, make_sites
from references.run_folder import make_run as make_record

from acf_server.evaluation import evaluate_run
from acf_server.run_files import CONTRACT_FILE, RUN_FILE, write_record
from acfnet_core.cohort.contract_toml import contract_to_toml
from acfnet_core.federation.release import RELEASE_FOLDER, load_release
from acfnet_core.training.release import load_ensemble

NUM_PATIENTS = 40


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two rounds on clinical columns alone."""
    folder = tmp_path_factory.mktemp("run")
    cohorts = {name: make_cohort(NUM_PATIENTS, seed=i) for i, name in enumerate(SITES)}
    sites = replace(make_sites(), cohorts=cohorts)
    make_run(folder, sites, rounds=2, num_years=12, modalities="clinical").play()
    contract = cohorts[SITES[0]].contract
    (folder / CONTRACT_FILE).write_text(contract_to_toml(contract))
    record = make_record(features=list(contract.features), minimum_cell=10)
    write_record(folder / RUN_FILE, record)
    return folder


def longest_supported() -> float:
    """Count by hand how long ten patients of a site were at risk, in half-years."""
    edges = []
    for seed in range(len(SITES)):
        times = [p.time_months for p in make_cohort(NUM_PATIENTS, seed=seed).patients]
        starts = [6.0 * k for k in range(24) if sum(t > 6.0 * k for t in times) >= 10]
        edges.append(starts[-1] + 6.0)
    return max(edges)


def test_the_release_tells_how_far_its_twelve_years_are_supported(
    finished: Path,
) -> None:
    description = load_release(finished / RELEASE_FOLDER)[1]
    assert description.supported_months == longest_supported() < 96.0
    model, member = load_ensemble(finished / RELEASE_FOLDER)
    assert model.config.bin_edges_months[-1] == 144.0
    assert member.config == model.config


def test_the_verdict_of_twelve_years_ends_where_they_are_supported(
    finished: Path,
) -> None:
    reference = make_cohort(60, seed=9)
    verdict = evaluate_run(finished, make_cohort(60, seed=8), [reference])
    supported = longest_supported()
    assert verdict.supported_months == supported
    assert verdict.tau_months <= supported
    assert verdict.brier_window_months is not None
    assert verdict.brier_window_months[1] <= supported
    said = f"After {supported:.0f} months no site had 10 patients left at risk"
    assert any(warning.startswith(said) for warning in verdict.warnings)
