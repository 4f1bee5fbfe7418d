import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.masks.nifti_contents import NIFTI_ERRORS, read_nifti_contents

LABELS = np.zeros((4, 5, 6), np.uint8)
LABELS[1, 2:4, 3] = 5
LABELS[2:, 0, 0] = 7


def _write(path: Path, values: npt.NDArray[np.generic]) -> Path:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((1.5, 2.0, 2.5))
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_labels_are_counted_whatever_their_type(
    kind: str, ending: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / f"a.{ending}", LABELS.astype(kind))
    found = read_nifti_contents(path)
    assert (found.shape, found.spacing_mm) == (LABELS.shape, (2.5, 2.0, 1.5))
    assert found.voxels == {5: 2, 7: 2}


@pytest.mark.parametrize("value", [-1000, 0.5, np.nan, 1e9])
def test_an_image_is_no_mask(value: float, tmp_path: Path) -> None:
    values = LABELS.astype("f4")
    values[0, 0, 0] = value
    assert read_nifti_contents(_write(tmp_path / "a.nii", values)).voxels is None


def test_more_values_than_labels_can_be_are_an_image(tmp_path: Path) -> None:
    values = np.arange(400, dtype=np.int16).reshape(4, 10, 10)
    assert read_nifti_contents(_write(tmp_path / "a.nii", values)).voxels is None


def test_a_big_endian_second_header_is_read(tmp_path: Path) -> None:
    header = bytearray(544)
    struct.pack_into(">i", header, 0, 540)
    header[4:8] = b"n+2\0"
    struct.pack_into(">hh", header, 12, 512, 16)
    struct.pack_into(">8q", header, 16, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into(">8d", header, 104, 1, 1.5, 2.0, 2.5, 1, 1, 1, 1)
    struct.pack_into(">q", header, 168, 544)
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + LABELS.astype(">u2").tobytes())
    found = read_nifti_contents(path)
    assert (found.spacing_mm, found.voxels) == ((2.5, 2.0, 1.5), {5: 2, 7: 2})


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_file_that_breaks_off_is_refused(ending: str, tmp_path: Path) -> None:
    path = _write(tmp_path / f"a.{ending}", LABELS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EOFError):
        read_nifti_contents(path)


def test_a_volume_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.nii", LABELS)
    content = bytearray(path.read_bytes())
    struct.pack_into("<8h", content, 40, 3, 4096, 4096, 4096, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="larger than any CT"):
        read_nifti_contents(path)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.integers(0, 347), value=st.integers(0, 255))
def test_a_changed_header_is_read_or_refused(
    tmp_path: Path, place: int, value: int
) -> None:
    path = _write(tmp_path / "a.nii", LABELS)
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    try:
        shape = read_nifti_contents(path).shape
    except NIFTI_ERRORS:
        return
    assert min(shape) > 0
