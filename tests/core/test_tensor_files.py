import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from acfnet_core import tensor_files
from acfnet_core.errors import MachineError
from acfnet_core.files import PRIVATE_MODE
from acfnet_core.tensor_files import write_tensors

_WRITE_TOO_MUCH = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from acfnet_core.errors import MachineError
from acfnet_core.tensor_files import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_tensors(Path(sys.argv[1]), {"a": np.zeros(10_000)})
except MachineError as error:
    sys.exit(error.exit_status)
"""

_RISE_OF_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from acfnet_core.tensor_files import write_tensors
def peak_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
write_tensors(Path(sys.argv[1]), {"a": np.ones(8, np.float32)})
arrays = {"a": np.ones(2**24, np.float32)}
before = peak_kib()
write_tensors(Path(sys.argv[1]), arrays)
print(peak_kib() - before)
"""


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"b": rng.normal(size=(3, 4)).astype(np.float32), "a": np.arange(5)}


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def _assert_untouched(old_file: Path) -> None:
    assert old_file.read_bytes() == b"old"
    assert list(old_file.parent.iterdir()) == [old_file]


def test_the_bytes_are_those_that_safetensors_makes(old_file: Path) -> None:
    write_tensors(old_file, _arrays(), metadata={"what": "a test"})
    assert old_file.read_bytes() == save(_arrays(), metadata={"what": "a test"})
    assert list(old_file.parent.iterdir()) == [old_file]


def test_arrays_and_metadata_come_back(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", _arrays(), metadata={"what": "a test"})
    found = load_file(tmp_path / "file")
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in _arrays().items()
    }
    with safe_open(tmp_path / "file", framework="numpy") as file:
        assert file.metadata() == {"what": "a test"}


@pytest.mark.parametrize("mode", [PRIVATE_MODE, 0o644, 0o400])
def test_a_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o022)
    try:
        write_tensors(tmp_path / "file", _arrays(), mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_the_umask_has_its_say_in_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_tensors(tmp_path / "file", _arrays())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_write_that_breaks_off_leaves_the_old_file_alone_and_nothing_else(
    old_file: Path,
) -> None:
    # A process of its own, since the limit on the size of files cannot be lifted.
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TOO_MUCH, str(old_file)], check=False
    )
    assert done.returncode == 61
    _assert_untouched(old_file)


def test_a_full_disk_is_told_as_such(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the library says of one.
    text = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*_: object, **__: object) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(MachineError, match="the disk is full") as caught:
        write_tensors(old_file, _arrays())
    assert caught.value.code == "machine.disk_full"
    _assert_untouched(old_file)


def test_what_is_no_error_of_the_system_is_not_called_one(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SafetensorError("InvalidTensorView")

    monkeypatch.setattr(tensor_files, "save_file", broken)
    with pytest.raises(SafetensorError, match="InvalidTensorView"):
        write_tensors(old_file, _arrays())
    _assert_untouched(old_file)


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be used") as caught:
        write_tensors(tmp_path / "absent" / "file", _arrays())
    assert caught.value.code == "machine.folder_unwritable"


def test_the_arrays_are_not_copied_to_be_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RISE_OF_MEMORY, str(tmp_path / "file")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 16 * 1024  # of 64 MiB
