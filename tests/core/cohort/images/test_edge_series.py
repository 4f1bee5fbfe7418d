"""Every edge series comes out right to 0.1 mm and 0 HU, or is refused with its code."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from references.edge_series import (
    EDGE_CASES,
    MENDABLE,
    REFUSED,
    RIGHT,
    UNDECODABLE,
    UNREADABLE,
    EdgeCase,
)
from references.edge_world import Slice, cut_slices, is_in_ball

from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.images.dicom_gate import GatedSeries, gate_index
from acfnet_core.cohort.images.dicom_index import DicomIndex, index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.images.refusals import GATE_CODES, ScanRefusedError
from acfnet_core.cohort.images.repairs import (
    ALL_REPAIRS,
    NO_REPAIRS,
    Repairs,
    mend_index,
)
from acfnet_core.cohort.images.volume import SeriesVolume

_TOLERANCE_MM = 0.1
_HU_TOLERANCE = 1e-3
_SHARE_OF_SLICE = 0.5


def _gate(
    root: Path, repairs: Repairs = NO_REPAIRS
) -> tuple[DicomIndex, tuple[GatedSeries, ...]]:
    imaging = shipped_contract("crlm").imaging
    assert imaging is not None
    index = mend_index(index_folder(root), root, repairs)
    return index, gate_index(index, imaging, repairs)


def _write(case: EdgeCase, root: Path) -> Sequence[Sequence[Slice]]:
    # The topmost folder is the patient's: some repairs ask for its name.
    return case.write(root / "P-007" / "series")


def _check_place(volume: SeriesVolume, slices: Sequence[Slice]) -> None:
    """Check three corners of every slice against the truth."""
    num_slices, num_rows, num_columns = volume.hu.shape
    assert num_slices == len(slices)
    corners = np.array([[0, 0, 0], [0, 0, num_columns - 1], [0, num_rows - 1, 0]])
    for number, one in enumerate(slices):
        indices = corners + np.array([number, 0, 0])
        found = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        off_mm = np.linalg.norm(found - one.corners, axis=1)
        assert off_mm.max() <= _TOLERANCE_MM


def _check_values(volume: SeriesVolume, slices: Sequence[Slice]) -> None:
    """Check every voxel that was stored, and of a filled slice those off the ball."""
    for number, one in enumerate(slices):
        found = volume.hu[number].astype(np.float64)
        if number not in volume.lost_slices:
            np.testing.assert_allclose(found, one.hu, rtol=0, atol=_HU_TOLERANCE)
            continue
        is_plane = ~is_in_ball(_places_of(one), margin_mm=6.0)
        assert is_plane.mean() > _SHARE_OF_SLICE
        np.testing.assert_allclose(found[is_plane], one.hu[is_plane], rtol=0, atol=1.0)


def _places_of(one: Slice) -> np.ndarray:
    rows, columns = (np.arange(count) for count in one.hu.shape)
    down = rows[:, None, None] * one.pixel_spacing[0] * one.column
    return one.position + down + columns[None, :, None] * one.pixel_spacing[1] * one.row


def _pair(
    gated: Sequence[GatedSeries], truth: Sequence[Sequence[Slice]]
) -> Iterator[tuple[GatedSeries, Sequence[Slice]]]:
    """Pair each series with its truth, by UID where there are several."""
    by_uid = {slices[0].dataset.SeriesInstanceUID: slices for slices in truth}
    assert len(gated) == len(truth)
    for series in gated:
        uid = series.headers[0].series_uid
        yield series, truth[0] if len(truth) == 1 else by_uid[uid]


@pytest.mark.parametrize("name", RIGHT)
def test_a_sound_series_is_right_to_a_tenth_of_a_millimetre(
    name: str, tmp_path: Path
) -> None:
    truth = _write(RIGHT[name], tmp_path)
    _, gated = _gate(tmp_path)
    for series, slices in _pair(gated, truth):
        assert series.codes == RIGHT[name].codes
        volume = read_dicom_series(series)
        _check_place(volume, slices)
        _check_values(volume, slices)


@pytest.mark.parametrize("name", [*MENDABLE, *REFUSED])
def test_a_faulty_series_is_refused_with_exactly_its_codes(
    name: str, tmp_path: Path
) -> None:
    case = EDGE_CASES[name]
    _write(case, tmp_path)
    index, (series,) = _gate(tmp_path)
    assert index.num_broken == case.num_broken
    assert sorted(series.codes) == sorted(case.codes)
    with pytest.raises(ScanRefusedError):
        read_dicom_series(series)


@pytest.mark.parametrize("name", UNDECODABLE)
def test_pixels_that_cannot_be_trusted_are_refused_on_reading(
    name: str, tmp_path: Path
) -> None:
    _write(UNDECODABLE[name], tmp_path)
    _, (series,) = _gate(tmp_path)
    with pytest.raises(ScanRefusedError) as caught:
        read_dicom_series(series)
    assert caught.value.reason_code == "DECODE_FAILED"


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_without_a_readable_header_are_counted(name: str, tmp_path: Path) -> None:
    _write(UNREADABLE[name], tmp_path)
    index, gated = _gate(tmp_path)
    assert (gated, index.num_broken) == ((), UNREADABLE[name].num_broken)


@pytest.mark.parametrize("name", EDGE_CASES)
def test_with_every_repair_on_a_series_is_right_or_refused(
    name: str, tmp_path: Path
) -> None:
    case = EDGE_CASES[name]
    truth = _write(case, tmp_path)
    _, gated = _gate(tmp_path, ALL_REPAIRS)
    for series, slices in _pair(gated, truth):
        assert series.is_accepted == (case.mended is not None)
        if case.mended is None or not case.decodes:
            with pytest.raises(ScanRefusedError):
                read_dicom_series(series)
            continue
        assert series.repaired == case.mended
        volume = read_dicom_series(series)
        _check_place(volume, slices)
        _check_values(volume, slices)


def test_every_expected_code_has_a_meaning() -> None:
    expected = {code for case in EDGE_CASES.values() for code in case.codes}
    assert expected <= set(GATE_CODES)


def test_a_voxel_of_the_world_tells_its_place() -> None:
    slices = cut_slices()
    changes = [one.hu[-1, -1] - one.hu[-1, 0] for one in slices]
    assert min(changes) > 0
    assert len({float(one.hu[0, 0]) for one in slices}) == len(slices)
