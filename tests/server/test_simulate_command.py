"""`acf-server simulate`, as an operator types it."""

import json
from pathlib import Path

import pytest
from references.command_line import Program, refused
from references.simulated_cohorts import write_run_toml, write_table

from acf_server import simulation, simulation_ray
from acf_server.cli import main
from acf_server.simulation_result import SimulationResult


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    # It would change the whole process, and with it later tests.
    monkeypatch.setattr(
        "acfnet_core.training.reproducibility.make_deterministic",
        lambda num_threads: None,
    )
    return Program("acf-server", main, monkeypatch, capsys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "table.csv", 60, seed=1)


def test_it_answers_with_all_figures_and_the_next_command(
    server: Program, table: Path, tmp_path: Path
) -> None:
    run = write_run_toml(tmp_path, "trial", rounds=1)
    out = tmp_path / "out"
    options = ("--clinical", table, "--out", out, "--no-compare", "--json")
    ended = server.run("simulate", run, *options)
    assert ended.status == 0, ended.stderr
    result = SimulationResult.model_validate_json(ended.stdout)
    assert [site.name for site in result.sites] == ["pseudo-1", "pseudo-2"]
    last = ended.stderr.strip().splitlines()[-1]
    assert last == f"Next: acf-server report trial --folder {out}"


def test_the_next_commands_read_what_it_wrote(
    server: Program, table: Path, tmp_path: Path
) -> None:
    run = write_run_toml(tmp_path, "trial", rounds=1)
    out = tmp_path / "out"
    server.run("simulate", run, "--clinical", table, "--out", out, "--no-compare")
    assert server.run("report", "trial", "--folder", out).status == 0
    shown = server.run("run", "show", "trial", "--folder", out, "--json")
    assert json.loads(shown.stdout)["rounds_done"] == 1
    judged = server.run("evaluate", "trial", "--clinical", table, "--folder", out)
    assert judged.status == 0, judged.stderr


def test_without_ray_its_engine_says_how_to_install_it(
    server: Program, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation_ray, "find_spec", lambda name: None)
    monkeypatch.setattr(simulation, "require_ray", simulation_ray.require_ray)
    run = write_run_toml(tmp_path, "trial")
    options = ("--clinical", table, "--out", tmp_path / "out", "--engine", "ray")
    ended = server.run("simulate", run, *options)
    refused(ended, "machine.program_missing", "pip install 'acfnet[simulation]'")
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_each_other_are_refused(
    server: Program, tmp_path: Path
) -> None:
    run = write_run_toml(tmp_path, "trial")
    ended = server.run("simulate", run, "--out", tmp_path / "out")
    refused(ended, "config.invalid", "--cohort", "--clinical")
