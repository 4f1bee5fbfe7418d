"""The whole way, over real Flower processes on loopback, from files to a report."""

import json
import re
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from references.demo_runs import (
    PLANTED,
    DemoRun,
    demo_command,
    files_containing,
    play,
    processes_naming,
    write_planted_table,
)

from acfnet_core.cohort.contract import load_contract
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.model_arrays import load_arrays, model_arrays
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import LocalTrainingSettings

pytestmark = pytest.mark.integration

DOCS = Path(__file__).resolve().parents[2] / "docs"
SEED = 3
SYNTHETIC_MARKS = (b"CRLM-SYN", b"SYNTHETIC^PATIENT")
"""What stands for an identifier and a name in the made-up DICOM files and tables."""


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """Three sites with images and one round: the default demo, smaller."""
    folder = tmp_path_factory.mktemp("consortium") / "demo"
    return play(folder, "--patients", "45", "--rounds", "1", "--seed", str(SEED))


def play_one_site(folder: Path) -> DemoRun:
    """One site with images, one round of one step."""
    options = ("--sites", "1", "--patients", "12", "--rounds", "1")
    return play(folder, *options, "--local-steps", "1", "--seed", str(SEED))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    return play_one_site(tmp_path_factory.mktemp("images") / "demo")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_planted_table(tmp_path_factory.mktemp("table"), num_patients=90)


@pytest.fixture(scope="module")
def tables(
    planted: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DemoRun, DemoRun]:
    """The same federation of tables twice, with one seed."""
    first, second = (
        play(
            tmp_path_factory.mktemp(name) / "demo",
            *("--clinical", str(planted[0]), "--series", str(planted[1])),
            *("--rounds", "2", "--seed", str(SEED)),
        )
        for name in ("first", "second")
    )
    return first, second


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as the demo's sites do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)


def prepared_cohort(run: DemoRun, site: str) -> PreparedCohort:
    folder = run.folder / "sites" / site
    contract = load_contract(folder / "contract.toml")
    return open_store(folder / "prepared", contract=contract)


def test_one_federated_step_is_the_same_step_done_locally(images: DemoRun) -> None:
    plan = json.loads((images.run_folder / "plan.json").read_text())
    before, _ = load_checkpoint(images.run_folder, 0)
    after, manifest = load_checkpoint(images.run_folder, 1)
    cohort = prepared_cohort(images, "hospital-a")
    with one_thread():
        model = AcfNet(AcfNetConfig.model_validate(plan["model"]))
        load_arrays(model, before)
        seed = derive_seed(SEED, "hospital-a", 1)
        torch.manual_seed(seed)
        steps = list(
            train_locally(
                model,
                cohort,
                settings=LocalTrainingSettings(local_steps=1, learning_rate=2e-3),
                loss=LossConfig(),
                seed=seed,
            )
        )
    local = model_arrays(model)
    assert len(steps) == 1
    assert manifest.contributors == {"hospital-a": 12}
    assert sorted(local) == sorted(after)
    assert all((local[name] == after[name]).all() for name in local)
    assert any((before[name] != after[name]).any() for name in local)


def test_sites_train_on_scans_read_back_from_dicom(images: DemoRun) -> None:
    cohort = prepared_cohort(images, "hospital-a")
    scans, times, channels = cohort.load_scans(
        next(patient for patient in cohort.patients if patient.scans)
    )
    assert scans.shape[1:] == (4, 24, 48, 48)
    assert (times <= 0).all()
    assert channels.all()


def test_report_shows_models_with_n_and_two_risk_maps(images: DemoRun) -> None:
    report = Path(images.answer["report"]).read_text(encoding="utf-8")
    for name in ("4D-ACFNet", "ridge Cox", "Fong score", "Kaplan-Meier"):
        assert name in report
    assert "Made-up patients" in report
    assert len(list((images.run_folder / "risk_maps").glob("*.safetensors"))) == 2
    assert not re.search(r"(src|href)=[\"']https?://", report)


def test_json_names_the_run_the_report_and_the_figures(images: DemoRun) -> None:
    assert set(images.answer) == {"run_dir", "report", "rounds", "metrics"}
    assert images.answer["rounds"] == 1
    models = images.answer["metrics"]["models"]
    assert [model["num_patients"] for model in models] == [20] * 4


def test_no_mark_of_a_patient_leaves_the_hospitals_files(images: DemoRun) -> None:
    for mark in SYNTHETIC_MARKS:
        assert files_containing(images.folder / "coordinator", mark) == []
        assert files_containing(images.folder / "sites", mark) == []
        assert mark.decode() not in images.stdout + images.stderr
        assert files_containing(images.folder / "hospitals", mark) != []


def test_no_site_path_reaches_the_coordinator(images: DemoRun) -> None:
    paths = str(images.folder / "sites").encode()
    assert files_containing(images.folder / "coordinator", paths) == []


def test_a_planted_name_is_in_nothing_but_the_table(
    tables: tuple[DemoRun, DemoRun],
) -> None:
    for run in tables:
        for part in ("coordinator", "sites"):
            assert files_containing(run.folder / part, PLANTED.encode()) == []
        assert PLANTED not in run.stdout + run.stderr


def test_same_seed_gives_the_same_global_model(
    tables: tuple[DemoRun, DemoRun],
) -> None:
    first, second = tables
    for round_number in range(3):
        assert first.parameters(round_number) == second.parameters(round_number)
    assert first.parameters(1) != first.parameters(2)


def test_same_seed_gives_the_same_global_model_with_images(
    images: DemoRun, tmp_path: Path
) -> None:
    again = play_one_site(tmp_path / "demo")
    assert images.parameters(1) == again.parameters(1)


def test_three_sites_with_missing_scans_train_one_model(consortium: DemoRun) -> None:
    _, manifest = load_checkpoint(consortium.run_folder, 1)
    sites = ("hospital-a", "hospital-b", "hospital-c")
    assert manifest.contributors == dict(zip(sites, (20, 15, 10), strict=True))
    numbers = {
        len(patient.scans)
        for site in sites
        for patient in prepared_cohort(consortium, site).patients
    }
    assert {1, 2, 3} <= numbers
    report = Path(consortium.answer["report"]).read_text(encoding="utf-8")
    assert all(site in report for site in sites)


def test_three_sites_read_three_ways_of_writing(consortium: DemoRun) -> None:
    data = {
        path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["data"]
        for path in (consortium.folder / "sites").glob("*/site.toml")
    }
    names = {site: Path(one["clinical_table"]).name for site, one in data.items()}
    assert names == {
        "hospital-a": "clinical.xlsx",
        "hospital-b": "patienten.csv",
        "hospital-c": "registry.xlsx",
    }
    assert data["hospital-b"]["table"]["decimal_mark"] == ","
    assert "hospital-b: table patienten.csv" in consortium.stderr


def test_everything_that_the_demo_started_has_ended(
    images: DemoRun, consortium: DemoRun, tables: tuple[DemoRun, DemoRun]
) -> None:
    for run in (images, consortium, *tables):
        assert processes_naming(str(run.folder)) == []


def test_ten_lines_of_python_predict_for_one_patient(images: DemoRun) -> None:
    page = (DOCS / "use-from-python.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    done = subprocess.run(
        [demo_command(images.folder)[0], "-c", code.group(1)],
        cwd=images.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("still free of the event") == 16


def test_a_second_demo_in_the_same_folder_is_refused(images: DemoRun) -> None:
    before = sorted(images.folder.rglob("*"))
    done = subprocess.run(
        demo_command(images.folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "machine.folder_not_empty" in done.stderr
    assert sorted(images.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_ctrl_c_or_a_kill_ends_everything_that_was_started(
    planted: tuple[Path, Path],
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    folder = tmp_path / "demo"
    log = tmp_path / "stderr.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            demo_command(
                folder,
                *("--clinical", str(planted[0]), "--series", str(planted[1])),
                *("--rounds", "100"),
            ),
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        deadline = time.monotonic() + 180
        while "initial model" not in log.read_text() and process.poll() is None:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        assert processes_naming(str(folder)) != []
        process.send_signal(number)
        assert process.wait(timeout=60) == status, log.read_text()
    deadline = time.monotonic() + 60
    while processes_naming(str(folder)):
        assert time.monotonic() < deadline, processes_naming(str(folder))
        time.sleep(0.5)
    if number == signal.SIGINT:
        assert "Stopped at stage 6 of 8" in log.read_text()
        assert "Logs:" in log.read_text()
