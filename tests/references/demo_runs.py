"""Running the real demo as a person does, and looking at what it left."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acfnet_core.cohort.synthetic.patient import draw_patient

PLANTED = "PLANTEDNAME"
"""Begins every identifier of the planted table; it must turn up nowhere else."""
TIMEOUT_S = 420


@dataclass(frozen=True)
class DemoRun:
    """A finished demo: its folder, what it printed, and its JSON."""

    folder: Path
    stdout: str
    stderr: str
    answer: dict[str, Any]

    @property
    def run_folder(self) -> Path:
        return Path(self.answer["run_dir"])

    def parameters(self, round_number: int) -> bytes:
        """Return the global model's file after a round."""
        folder = self.run_folder / "checkpoints" / f"round-{round_number:04d}"
        return (folder / "parameters.safetensors").read_bytes()


def demo_command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "acf_server", "demo", "--dir", str(folder), *options]


def play(folder: Path, *options: str) -> DemoRun:
    """Run `acf-server demo --json` to its end."""
    done = subprocess.run(
        [*demo_command(folder, *options), "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return DemoRun(folder, done.stdout, done.stderr, answer)


def write_planted_table(folder: Path, *, num_patients: int) -> tuple[Path, Path]:
    """Write a clinical table and a table of series with planted identifiers."""
    rows: list[dict[str, Any]] = []
    series: list[dict[str, Any]] = []
    for index in range(num_patients):
        patient = draw_patient("pool", index, seed=5, scans_missing_probability=1.0)
        identifier = f"{PLANTED}-{index:04d}"
        row = {**patient.row, "Patient-ID": identifier}
        row.pop("date_of_liver_resection", None)
        rows.append({**row, "relevant_notes": f"{PLANTED} was scanned prone."})
        num_slices = 160 if index % 2 else 55
        series.append({"Subject ID": identifier, "Number of Images": num_slices})
    paths = folder / "clinical.csv", folder / "ct_series.csv"
    for path, content in zip(paths, (rows, series), strict=True):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    return paths


def processes_naming(text: str) -> list[str]:
    """Return the command lines of running processes that contain `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


def files_containing(folder: Path, needle: bytes) -> list[str]:
    """Return the files below `folder` that contain `needle`, as they lie on disk."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and needle in path.read_bytes()
    )
