"""A part of a series is what the whole has there, and is refused as the whole is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from references.ct_series import SHAPE, liver_box, make_series, write_series
from references.mendable_series import lose_one

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_series
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import (
    locate_series,
    read_dicom_series,
    read_part,
)
from acfnet_core.cohort.images.refusals import ScanRefusedError
from acfnet_core.cohort.images.repairs import ALL_REPAIRS
from acfnet_core.cohort.images.volume import (
    lay_on_grid,
    lay_part_on_grid,
    place_grid,
)

IMAGING = shipped_contract("crlm").imaging
assert IMAGING is not None
FINE = IMAGING.model_copy(
    update={"grid_shape": (6, 16, 16), "grid_spacing_mm": (4.0, 5.0, 5.0)}
)
MIDDLE = (slice(4, 8), slice(5, 20), slice(3, 17))


def _gated(folder: Path) -> GatedSeries:
    (headers,) = index_folder(folder).ct_series
    return gate_series(headers, IMAGING, repairs=ALL_REPAIRS)


def _written(folder: Path, change: Callable[[list[Dataset]], None]) -> GatedSeries:
    slices = make_series()
    change(slices)
    write_series(slices, folder)
    return _gated(folder)


def _as_it_is(_: list[Dataset]) -> None:
    """Change nothing."""


@pytest.fixture(scope="module")
def with_a_lost_slice(tmp_path_factory: pytest.TempPathFactory) -> GatedSeries:
    return _written(tmp_path_factory.mktemp("lost"), lose_one)


def _ranges(length: int) -> st.SearchStrategy[slice]:
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).map(
        lambda pair: slice(min(pair), max(pair[1], pair[0] + 1))
    )


@settings(deadline=None, max_examples=25)
@given(part=st.tuples(*map(_ranges, SHAPE)))
def test_a_part_is_what_the_whole_has_there(
    part: tuple[slice, slice, slice], with_a_lost_slice: GatedSeries
) -> None:
    whole = read_dicom_series(with_a_lost_slice).hu
    np.testing.assert_array_equal(read_part(with_a_lost_slice, part), whole[part])


def test_a_place_is_told_without_the_files(
    with_a_lost_slice: GatedSeries,
) -> None:
    whole = read_dicom_series(with_a_lost_slice)
    place = locate_series(with_a_lost_slice)
    assert (place.shape, place.spacing_mm) == (whole.hu.shape, whole.spacing_mm)
    assert place.lost_slices == whole.lost_slices == (6,)
    np.testing.assert_array_equal(place.affine, whole.affine)


def _fractions_below(slices: list[Dataset]) -> None:
    slices[0].RescaleSlope = 0.5


def _beyond_16_bits_below(slices: list[Dataset]) -> None:
    slices[0].PixelRepresentation = 0
    slices[0].PixelData = np.full(SHAPE[1:], 60000, "<u2").tobytes()


@pytest.mark.parametrize("change", [_as_it_is, _fractions_below, _beyond_16_bits_below])
def test_a_scan_on_the_grid_is_the_same_from_its_part(
    change: Callable[[list[Dataset]], None], tmp_path: Path
) -> None:
    series = _written(tmp_path, change)
    masks = {"liver": liver_box().astype(np.bool_)}
    masks["liver"][:5] = False
    whole = lay_on_grid(read_dicom_series(series), masks, FINE)
    where = locate_series(series)
    place = place_grid(where, masks["liver"], FINE)
    assert place.part[0].start > 0
    found = lay_part_on_grid(where, read_part(series, place.part), masks, FINE, place)
    np.testing.assert_array_equal(found.ct_hu, whole.ct_hu)
    np.testing.assert_array_equal(found.labels, whole.labels)


def test_the_lowest_bits_alone_are_the_value(tmp_path: Path) -> None:
    def fill_unused_bits(slices: list[Dataset]) -> None:
        for one in slices:
            one.BitsStored, one.HighBit = 12, 11
            stored = np.full(SHAPE[1:], 0x0FFE, "<u2")
            stored[::2] |= 0xA000
            one.PixelData = stored.tobytes()

    series = _written(tmp_path, fill_unused_bits)
    assert (read_part(series, MIDDLE) == -2 - 1024).all()


def _packed(path: Path) -> None:
    one = dcmread(path)
    one.compress(RLELossless, generate_instance_uid=False)
    one.save_as(path)


def _implicit(path: Path) -> None:
    one = dcmread(path)
    one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    one.save_as(path, implicit_vr=True, little_endian=True)


@pytest.mark.parametrize("rewrite", [_packed, _implicit])
def test_a_series_has_the_same_values_in_another_encoding(
    rewrite: Callable[[Path], None], tmp_path: Path
) -> None:
    plain = read_dicom_series(_written(tmp_path / "plain", _as_it_is))
    for path in write_series(make_series(), tmp_path / "other"):
        rewrite(path)
    other = read_dicom_series(_gated(tmp_path / "other"))
    np.testing.assert_array_equal(other.hu, plain.hu)


def _lowest(series: GatedSeries) -> Path:
    """Return the file of the lowest slice, which the middle does not need."""
    return series.headers[0].path


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _with_another_uid(path: Path) -> None:
    one = dcmread(path)
    one.SOPInstanceUID = "1.2.3"
    one.save_as(path)


def _with_a_high_bit_above(path: Path) -> None:
    one = dcmread(path)
    one.BitsStored, one.HighBit = 12, 15
    one.save_as(path)


def _of_another_size(path: Path) -> None:
    one = dcmread(path)
    one.Rows = SHAPE[1] // 2
    one.PixelData = one.PixelData[: len(one.PixelData) // 2]
    one.save_as(path)


def _packed_and_garbled(path: Path) -> None:
    one = dcmread(path)
    one.compress(RLELossless, generate_instance_uid=False)
    one.PixelData = encapsulate([b"\x09" + bytes(63)])
    one.save_as(path)


@pytest.mark.parametrize(
    "spoil",
    [
        _cut_short,
        _with_another_uid,
        _with_a_high_bit_above,
        _of_another_size,
        _packed_and_garbled,
        Path.unlink,
    ],
)
def test_a_fault_beyond_the_part_refuses_the_series(
    spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    series = _written(tmp_path, _as_it_is)
    spoil(_lowest(series))
    with pytest.raises(ScanRefusedError, match="DECODE_FAILED"):
        read_part(series, MIDDLE)


def test_a_series_that_the_gate_refused_has_no_place(tmp_path: Path) -> None:
    refused = replace(
        _written(tmp_path, _as_it_is), codes=("GANTRY_TILT",), spacing_mm=None
    )
    with pytest.raises(ScanRefusedError, match="GANTRY_TILT"):
        locate_series(refused)
