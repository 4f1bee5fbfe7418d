"""Flower's simulation engine with Ray, where it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from references.simulated_cohorts import write_run_toml, write_site

from acf_server.coordinator import open_coordinator
from acf_server.runs import find_run
from acfnet_core.federation.checkpoint import load_checkpoint
from acfnet_core.federation.parameters import FlatParameters, flatten

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="needs Ray: pip install 'acfnet[simulation]'",
    ),
]
TIMEOUT_S = 300


def play(folder: Path, name: str, *options: str) -> FlatParameters:
    """Simulate a run and return its last parameters."""
    run = write_run_toml(folder, name)
    sites = [word for one in ("a", "b") for word in ("--cohort", str(folder / one))]
    command = [sys.executable, "-m", "acf_server", "simulate", str(run), *sites]
    subprocess.run(
        [*command, "--out", str(folder / "out"), *options],
        check=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    arrays, _ = load_checkpoint(find_run(open_coordinator(folder / "out"), name), 2)
    return flatten(arrays)


def test_ray_and_one_process_end_with_the_same_bits(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write_site(tmp_path / name, 30, seed=seed)
    here = play(tmp_path, "here")
    with_ray = play(tmp_path, "with-ray", "--engine", "ray", "--workers", "2")
    np.testing.assert_array_equal(with_ray, here)
