"""Memory and time of a site's data commands as the number of patients grows.

    PYTHONPATH=tests python benchmarks/cohort_memory.py --write PAGE

On Linux alone, which tells of a process what is asked here.

One made-up patient with two small scans is written and copied, each copy with an
identifier and UIDs of its own. The commands run as programs of their own; every few
milliseconds the peak of the resident set (VmHWM) of the program and of each process
below it is noted. What the headers of many thin slices take is measured by itself, on
files without pixels to speak of.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from references.admitted_sites import admit_site

from acfnet_core.cohort.synthetic.table import Cell

NUM_PATIENTS = (10, 160, 640)
COMMANDS = ("inspect", "check", "prepare", "report", "summary")
NUM_SCANS = 2
THIN_SLICES = 200
"""Of each of two scans, for what headers take."""
NUM_WITH_THIN_SLICES = (30, 150)
POLL_S = 0.01
MIB_OF_KIB = 1024
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_WHAT_GROWS = """
What still grows, at the peak: the clinical table, 0.8 KiB a patient while it is \
converted and 0.6 KiB after (36 columns, 5,000 rows; cells that are equal are one), \
since every row is compared with the others; the names of the folders that lie beside \
one another, 0.1 KiB each; and in `data check` the identifiers that were met, 0.1 KiB. \
From 160 to 1,280 patients `data check` and `data prepare` took 1.0 KiB more for each, \
so 10,000 patients take 10 MiB more than 10. \
`data report` keeps the page that it writes, `data summary` the manifest of the store. \
Before headers were put on the disk, a patient of this kind took 48 KiB in \
`data check`, 52 KiB in `data prepare`, and 838 bytes more for every further slice."""

_UID = re.compile(rb"(2\.25\.\d)\d{4}(?=\d{8})")


@dataclass(frozen=True, kw_only=True)
class BaseFiles:
    """The one patient who was made up.

    Attributes:
        files: Below the folder of images, with what is in them.
        row: Of the clinical table.
        num_slices: Of both scans.
    """

    patient_id: str
    files: dict[Path, bytes] = field(repr=False)
    row: dict[str, Cell] = field(repr=False)
    num_slices: int

    def name(self, number: int) -> str:
        """Return another patient's identifier, of equal length."""
        return f"{self.patient_id[:-4]}{number:04}"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a program took.

    Attributes:
        seconds: Processor time of all its processes.
        own_kib: Peak of the program itself.
        worker_kib: That of the largest process below it.
    """

    seconds: float
    own_kib: int
    worker_kib: int


def make_base(folder: Path) -> BaseFiles:
    """Make up a patient with two scans of about twenty slices."""
    from acfnet_core.cohort.synthetic.image import render_scan
    from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
    from acfnet_core.cohort.synthetic.study_files import write_study

    site = SyntheticSite(
        name="hospital-a",
        num_patients=20,
        slice_spacing_mm=7.5,
        pixel_spacing_mm=4.5,
        noise_hu=6.0,
        hu_shift=0.0,
        scans_missing_probability=0.0,
    )
    drawn = draw_site(site, seed=0)
    patient = next(one for one in drawn if len(one.scans) == NUM_SCANS)
    for scan in patient.scans:
        content = render_scan(patient, scan, site.scanner)
        write_study(patient, scan, content, folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return BaseFiles(
        patient_id=patient.patient_id,
        files={path.relative_to(folder): path.read_bytes() for path in paths},
        row=dict(patient.row),
        num_slices=sum(path.parent.name.startswith("100.") for path in paths),
    )


def write_hospital(base: BaseFiles, folder: Path, num_patients: int) -> None:
    """Write so many copies of the patient, their table, and a site that reads them."""
    from acfnet_core.cohort.contract import shipped_contract
    from acfnet_core.cohort.synthetic.table_files import write_table
    from acfnet_core.cohort.synthetic.table_forms import table_form

    form = table_form("public")
    rows = []
    for number in range(1, num_patients + 1):
        old, new = base.patient_id, base.name(number)
        rows.append(form.write_row({**base.row, "Patient-ID": new}))
        for place, content in base.files.items():
            path = folder / "images" / str(place).replace(old, new)
            path.parent.mkdir(parents=True, exist_ok=True)
            own = _UID.sub(rb"\g<1>%04d" % number, content)
            path.write_bytes(own.replace(old.encode(), new.encode()))
    write_table(rows, form, folder / form.file_name)
    admit_site(folder, shipped_contract("crlm"))


def write_thin_slices(base: BaseFiles, folder: Path, num_patients: int) -> None:
    """Write two series of thin slices for each patient, of 8 x 8 pixels."""
    from io import BytesIO

    from pydicom import dcmread

    place = next(one for one in base.files if one.parent.name.startswith("100."))
    one = dcmread(BytesIO(base.files[place]))
    one.Rows = one.Columns = 8
    one.PixelData = bytes(8 * 8 * 2)
    uid = one.SOPInstanceUID[:-8]
    for series in range(NUM_SCANS * num_patients):
        one.PatientID = base.name(series // NUM_SCANS)
        one.SeriesInstanceUID = f"{one.SeriesInstanceUID[:-8]}{series:08}"
        one.StudyInstanceUID = f"{one.StudyInstanceUID[:-8]}{series:08}"
        below = folder / one.PatientID / f"{place.parts[1]}-{series}" / place.parts[2]
        below.mkdir(parents=True)
        for number in range(THIN_SLICES):
            one.SOPInstanceUID = f"{uid}{THIN_SLICES * series + number:08}"
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.ImagePositionPatient = [-192.5, -180.25, 0.75 * number]
            one.save_as(below / f"1-{number:03}.dcm")


def run(command: Sequence[str]) -> Usage:
    """Run a program and watch it and the processes below it."""
    with tempfile.TemporaryFile() as said:
        program = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        # The last value of each is its highest. One before it, of a process that had
        # not begun its own program yet, is its parent's.
        peaks: dict[int, int] = {}
        seconds = 0.0
        while program.poll() is None:
            running = list(_family(program.pid))
            now = {pid: _peak_kib(pid) for pid in running}
            peaks |= {pid: kib for pid, kib in now.items() if kib}
            seconds = max(seconds, sum(map(_seconds, running)))
            time.sleep(POLL_S)
        if program.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode())
    own_kib = peaks.pop(program.pid)
    return Usage(
        seconds=seconds, own_kib=own_kib, worker_kib=max(peaks.values(), default=0)
    )


def measure_index(folder: Path) -> dict[str, float]:
    """Index and judge a folder in this process; return what it took."""
    from acfnet_core.cohort.contract import shipped_contract
    from acfnet_core.cohort.images.dicom_index import index_folder
    from acfnet_core.cohort.images.gated_list import gate_on_disk

    imaging = shipped_contract("crlm").imaging
    if imaging is None:
        raise ValueError("the contract has images")
    before_kib = _peak_kib(os.getpid())
    index = index_folder(folder)
    series = gate_on_disk(index, imaging)
    kib = _peak_kib(os.getpid()) - before_kib
    return {
        "headers": sum(len(one.headers) for one in series),
        "accepted": sum(one.is_accepted for one in series),
        "kib": kib,
    }


def _family(pid: int) -> Iterator[int]:
    """Yield a process and those below it."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _peak_kib(pid: int) -> int:
    """Return the peak of a process since its program began; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) if found else 0


def _seconds(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def tell_commands(found: dict[str, dict[int, Usage]], num_slices: int) -> Iterator[str]:
    """Yield the table of the commands, and what one patient more takes."""
    few, some, many = NUM_PATIENTS
    yield "# Memory and time of the data commands as patients grow in number\n"
    yield (
        "`PYTHONPATH=tests python benchmarks/cohort_memory.py --write "
        "benchmarks/cohort_memory.md`\n"
    )
    yield (
        f"Copies of one made-up patient, {NUM_SCANS} scans with {num_slices} slices "
        "together and a DICOM SEG each; the contract `crlm`; one thread a process, two "
        "workers; files in the system's cache. Memory: peak of the resident set of the "
        "program, of the largest process below it, and their sum. Seconds: processor "
        "time of all of them.\n"
    )
    yield (
        "| command | patients | program, MiB | largest worker, MiB | together, MiB | "
        "processor, s |"
    )
    yield "|---|---|---|---|---|---|"
    for command, by_size in found.items():
        for size, one in by_size.items():
            yield (
                f"| `data {command}` | {size} | {one.own_kib / MIB_OF_KIB:.1f} | "
                f"{one.worker_kib / MIB_OF_KIB:.1f} | "
                f"{(one.own_kib + one.worker_kib) / MIB_OF_KIB:.1f} | "
                f"{one.seconds:.2f} |"
            )
    yield (
        f"\nWhat one patient more takes; memory from {some} to {many} patients, time "
        "in two parts, which are equal if it grows with the patients and no faster:\n"
    )
    yield (
        "| command | program, KiB | largest worker, KiB | "
        f"s, from {few} to {some} | s, from {some} to {many} |"
    )
    yield "|---|---|---|---|---|---|"
    for command, by_size in found.items():
        first, middle, last = (by_size[size] for size in NUM_PATIENTS)
        slope_kib = (last.own_kib - middle.own_kib) / (many - some)
        yield (
            f"| `data {command}` | {slope_kib:.1f} | "
            f"{(last.worker_kib - middle.worker_kib) / (many - some):.1f} | "
            f"{(middle.seconds - first.seconds) / (some - few):.3f} | "
            f"{(last.seconds - middle.seconds) / (many - some):.3f} |"
        )


def tell_index(found: Sequence[dict[str, float]]) -> Iterator[str]:
    """Yield what the headers of thin slices take."""
    few, many = found
    kib = (many["kib"] - few["kib"]) / (many["headers"] - few["headers"])
    yield (
        f"\nSlices: {few['headers']:,.0f} and {many['headers']:,.0f} thin ones, "
        f"indexed and judged, take {few['kib'] / MIB_OF_KIB:.1f} and "
        f"{many['kib'] / MIB_OF_KIB:.1f} MiB, or {1024 * kib:.0f} bytes of peak "
        "memory for each slice more. Headers lie on the disk, in a file without a "
        "name, with 2 MiB of it in memory; those of one patient are read at a time. No "
        "pixels are kept of one patient when the next is read."
    )
    yield _WHAT_GROWS


def _measure_commands(base: BaseFiles, folder: Path) -> dict[str, dict[int, Usage]]:
    found: dict[str, dict[int, Usage]] = {command: {} for command in COMMANDS}
    for size in NUM_PATIENTS:
        hospital = folder / f"hospital-{size}"
        write_hospital(base, hospital, size)
        for command in COMMANDS:
            program = [sys.executable, "-m", "acf_client", "data", command]
            images, site = str(hospital / "images"), str(hospital / "site")
            place = [images] if command == "inspect" else ["--folder", site]
            found[command][size] = run([*program, *place])
            print(size, command, found[command][size], file=sys.stderr)
    return found


def _measure_indices(base: BaseFiles, folder: Path) -> list[dict[str, float]]:
    found = []
    for size in NUM_WITH_THIN_SLICES:
        images = folder / f"thin-{size}"
        write_thin_slices(base, images, size)
        program = [sys.executable, __file__, "--index", str(images)]
        answer = subprocess.run(  # noqa: S603 - our own program
            program, capture_output=True, text=True, check=True
        )
        found.append(json.loads(answer.stdout))
        print(found[-1], file=sys.stderr)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    if options.index:
        print(json.dumps(measure_index(options.index)))
        return
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder) / "base")
        indices = _measure_indices(base, Path(folder))
        commands = _measure_commands(base, Path(folder))
    lines = (*tell_commands(commands, base.num_slices), *tell_index(indices))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
