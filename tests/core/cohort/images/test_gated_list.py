import socket
from pathlib import Path

import pytest
from references.ct_series import make_series, write_series

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.guarded.frames import pack, receive_trusted
from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.gated_list import GatedList, gate_on_disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for patient in ("P-1", "P-2"):
        write_series(make_series(patient), tmp_path / patient)
    mixed = make_series("P-3")
    mixed[0].PatientID = "P-4"
    write_series(mixed, tmp_path / "mixed")
    return tmp_path


def imaging() -> ImagingExpectations:
    expected = shipped_contract("crlm").imaging
    assert expected is not None
    return expected


def gated(folder: Path) -> GatedList:
    return gate_on_disk(index_folder(folder), imaging())


def test_on_the_disk_or_in_memory_verdicts_are_the_same(folder: Path) -> None:
    assert gated(folder) == gate_index(index_folder(folder), imaging())


def test_a_series_of_two_patients_is_found_by_both(folder: Path) -> None:
    found = gated(folder)
    (mixed,) = (one for one in found if "MIXED_PATIENT" in one.codes)
    for patient in ("P-3", "P-4"):
        assert list(found.of_patient(patient)) == [mixed]


def test_every_patient_of_the_files_is_told_once(folder: Path) -> None:
    found = gated(folder)
    assert list(found.patients()) == ["P-1", "P-2", "P-3", "P-4"]
    assert found.has_patient("P-4")
    assert not found.has_patient("P-5")


def test_another_process_gets_the_headers_themselves(folder: Path) -> None:
    series = gated(folder)[0]
    asking, reader = socket.socketpair()
    with asking, reader:
        asking.sendall(pack(series))
        copy = receive_trusted(reader)
    assert isinstance(copy.headers, tuple)
    assert copy == series
