"""Files that do harm, and functions that end a reader in each way it can end.

The functions stand in a module, as a reader imports what it runs.
"""

import os
import resource
import signal
import struct
import time
from pathlib import Path

import numpy as np
import openpyxl
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless
from references.edge_files import compress

from acfnet_core.cohort.images.dicom_index import InstanceHeader, headers_if_dicom
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.prepared.scan_job import JobResult, ScanJob, run_job
from acfnet_core.errors import MachineError

PLANTED_NAME = "Canary^Planted"
CRASHING_NAME = "crash.dcm"


def square_of(number: int) -> int:
    """Return a number's square; from 100 on, crash."""
    if number >= 100:
        segfault(number)
    return number * number


def process_of(_: object) -> int:
    """Return the reader's process id."""
    return os.getpid()


def segfault(_: object) -> None:
    """Do what a decoder with a wild pointer does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def loop_forever(_: object) -> None:
    """Use processor time without end."""
    while True:
        pass


def sleep_long(_: object) -> None:
    """Wait as for a network drive that is gone."""
    time.sleep(600)


def take_memory(_: object) -> int:
    """Ask for 1 GiB and touch it."""
    return int(np.ones(2**30, np.uint8).sum())


def recurse(depth: int) -> int:
    """Call itself until Python refuses."""
    return recurse(depth + 1)


def raise_with_secret(_: object) -> None:
    """Fail with a patient's name in the error's text."""
    raise KeyError(PLANTED_NAME)


def refuse(code: str) -> None:
    """Refuse a scan."""
    raise ScanRefusedError(code)


def fill_disk(_: object) -> None:
    """Fail as a full disk does."""
    raise MachineError("machine.disk_full", "a: full", remedy="Free space.")


def write_word_on_stderr(_: object) -> None:
    """Say a name on both streams, as C libraries do."""
    os.write(1, PLANTED_NAME.encode())
    os.write(2, PLANTED_NAME.encode())


def core_limits(_: object) -> tuple[int, int]:
    """Return the limits on core dumps."""
    return resource.getrlimit(resource.RLIMIT_CORE)


def host_of(_: object) -> int:
    """Return the process id of the reader's host."""
    return os.getppid()


def process_then_sleep(wait_s: int) -> int:
    """Return the reader's process id after a while."""
    time.sleep(wait_s)
    return os.getpid()


def return_function(_: object) -> object:
    """Return what may not cross back: a function."""
    return os.system


def note_processes(path: str) -> None:
    """Write the reader's and its host's process ids, and stay."""
    Path(path).write_text(f"{os.getpid()} {os.getppid()}", encoding="ascii")
    time.sleep(600)


def headers_unless_crashing(path: Path) -> tuple[InstanceHeader, ...] | None:
    """Read a header; crash on the file of that name."""
    if path.name == CRASHING_NAME:
        segfault(path)
    return headers_if_dicom(path)


def run_job_unless_early(job: ScanJob) -> JobResult:
    """Prepare a scan; crash on one of a year's beginning."""
    if job.scans[0].series.headers[0].study_date.startswith("199112"):
        segfault(job)
    return run_job(job)


def nest_sequences(one: Dataset, path: Path, *, depth: int) -> Path:
    """Write a file whose private sequence holds itself many times over."""
    one.save_as(path, enforce_file_format=True)
    opening = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    content = path.read_bytes()
    # Before the patient's group, so that it must be passed to come to the rest.
    place = content.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path.write_bytes(content[:place] + (opening + item) * depth + content[place:])
    return path


def swell_jpeg_2000(one: Dataset, path: Path) -> Path:
    """Write a slice whose code stream says that it has 65,535 x 65,535 pixels."""
    compress(one, JPEG2000Lossless)
    one.file_meta.TransferSyntaxUID = JPEG2000Lossless
    one.save_as(path, enforce_file_format=True)
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51") + 4
    for offset in (4, 8, 20, 24):  # the size of the image, and that of its tile
        struct.pack_into(">I", content, start + offset, 65_535)
    path.write_bytes(content)
    return path


def write_far_cell(path: Path) -> Path:
    """Write a workbook of 5 kB with a cell in the last row and column."""
    book = openpyxl.Workbook()
    sheet = book.active
    if sheet is None:
        raise ValueError("a new workbook has a sheet")
    sheet["A1"] = "Patient-ID"
    sheet["XFD1048576"] = 1
    book.save(path)
    return path


def write_nifti_header(path: Path, sides: tuple[int, int, int]) -> Path:
    """Write a NIfTI header that promises a volume, with no voxel after it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *sides, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header))
    return path
