import json
from pathlib import Path
from typing import Any

import pytest

from acfnet_core.cohort.prepared.manifest import (
    FORMAT_VERSION,
    InputsRecord,
    Manifest,
    PatientRecord,
    ScanRecord,
)
from acfnet_core.cohort.prepared.manifest_draft import ManifestDraft
from acfnet_core.cohort.spool import Spool


def make_manifest(**more: Any) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        # What looks like a list of the manifest is a text.
        contract_name='"patients": []',
        contract_sha256="0" * 64,
        num_without_outcome=0,
        refused={"LOSSY": 2},
        **more,
    )


def make_scan(place: int) -> ScanRecord:
    return ScanRecord(
        file=f"scans/abc/{place}.safetensors",
        sha256="1" * 64,
        time_months=-1.5,
        time_assumed=True,
        channel_mask=(True, False),
        repairs=("EMPTY_UID",),
    )


def make_inputs(name: str, num_scans: int) -> InputsRecord:
    return InputsRecord(
        pseudonym=name,
        clinical=(0.5, 0.0),
        clinical_mask=(True, False),
        scans=tuple(map(make_scan, range(num_scans))),
        refused=("LOSSY",),
    )


def make_patient(name: str, num_scans: int) -> PatientRecord:
    inputs = dict(make_inputs(name, num_scans))
    return PatientRecord(**inputs, time_months=1e-7, event=1, fong_score=None)


@pytest.mark.parametrize(
    ("num_patients", "num_others"), [(0, 0), (1, 0), (0, 2), (3, 1)]
)
def test_the_bytes_are_those_of_the_manifest(
    tmp_path: Path, num_patients: int, num_others: int
) -> None:
    patients = tuple(make_patient(f"a\n{n}", n) for n in range(num_patients))
    others = tuple(make_inputs(f'"{n}', n) for n in range(num_others))
    draft = ManifestDraft(Spool())
    for patient in patients:
        draft.add_patient(patient)
    for other in others:
        draft.add_without_outcome(other)
    draft.write(tmp_path / "manifest.json", make_manifest(patients=()))
    whole = make_manifest(patients=patients, without_outcome=others)
    written = (tmp_path / "manifest.json").read_bytes()
    assert written == whole.model_dump_json(indent=1).encode()
    assert json.loads(written)["contract_name"] == '"patients": []'


def test_what_it_holds_is_counted() -> None:
    draft = ManifestDraft(Spool())
    draft.add_patient(make_patient("a", 0))
    draft.add_patient(make_patient("b", 2))
    draft.add_without_outcome(make_inputs("c", 1))
    counts = draft.counts
    assert (counts.num_patients, counts.num_events, counts.num_with_scans) == (2, 2, 1)
    assert (counts.num_scans, counts.num_scans_without_outcome) == (2, 1)
    assert (counts.num_scans_assumed, dict(counts.repaired)) == (3, {"EMPTY_UID": 3})


def test_it_knows_the_files_of_its_scans() -> None:
    draft = ManifestDraft(Spool())
    draft.add_patient(make_patient("a", 1))
    assert draft.has_file("scans/abc/0.safetensors")
    assert not draft.has_file("scans/abc/1.safetensors")
