import csv
import hashlib
import io
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.planted_identifiers import Planter

from acfnet_core.cohort.check import check_cohort
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.deidentified import export as export_module
from acfnet_core.cohort.deidentified.export import (
    ExportFinished,
    ExportReady,
    export_cohort,
)
from acfnet_core.cohort.deidentified.export_folder import ExportFolder
from acfnet_core.cohort.deidentified.export_manifest import (
    MANIFEST,
    READ_ME,
    read_export_manifest,
)
from acfnet_core.cohort.deidentified.keyed_names import KeyedNames
from acfnet_core.cohort.images.dicom_index import quiet_dicom
from acfnet_core.cohort.prepared.preparation import make_pseudonym, prepare_cohort
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.table.clinical_table import read_clinical_table
from acfnet_core.errors import ConfigError, DataError, MachineError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
PlantedSite = tuple[CohortSources, Planter]

# DICOM PS3.3 table A.3-1 and the modules that it names: what every CT slice must have,
# with a value (type 1) or without (type 2).
CT_TYPE_1 = (
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "PixelData",
)
CT_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
    "PatientPosition",
    "AcquisitionNumber",
    "InstanceNumber",
    "SliceThickness",
    "KVP",
)
SEG_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "ContentLabel",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "SegmentationType",
    "SegmentSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "LossyImageCompression",
)


def _sources_of(export: Path) -> CohortSources:
    labels = read_export_manifest(export).nifti_labels
    return CohortSources(
        clinical_table=export / "clinical.csv",
        images_folder=export / "images",
        nifti_labels={int(value): names for value, names in labels.items()},
    )


def _prepare(sources: CohortSources, store: Path) -> PreparedCohort:
    with quiet_dicom():
        list(
            prepare_cohort(CRLM, sources, store, pseudonym_key=b"s" * 32, num_workers=1)
        )
    return open_store(store, contract=CRLM)


def _export(
    sources: CohortSources,
    folder: Path,
    *,
    key: bytes = KEY,
    only_patients: frozenset[str] | None = None,
) -> ExportReady:
    *_, finished = export_cohort(
        CRLM, sources, folder, site_key=key, only_patients=only_patients
    )
    assert isinstance(finished, ExportFinished)
    return finished.ready


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _dicom(export: Path, modality: str) -> list[Dataset]:
    files = [dcmread(path) for path in sorted(export.rglob("*.dcm"))]
    return [file for file in files if file.Modality == modality]


def _identifiers(sources: CohortSources) -> list[str]:
    with sources.clinical_table.open() as file:
        return [row["Patient-ID"] for row in csv.DictReader(file)]


def test_the_copy_passes_the_check(export: Path) -> None:
    report = check_cohort(CRLM, _sources_of(export))
    assert report.table.faults == ()
    assert report.images is not None
    assert report.images.scans_by_kind == {"DICOM SEG": 2, "RTSTRUCT": 1, "NIfTI": 1}
    assert report.images.num_patients_not_in_table == 0


def test_the_copy_prepares_to_the_same_bits(
    planted: PlantedSite, export: Path, tmp_path: Path
) -> None:
    original = _prepare(planted[0], tmp_path / "original")
    copy = _prepare(_sources_of(export), tmp_path / "copy")
    names = KeyedNames(KEY)
    there = {one.pseudonym: one for one in original.patients}
    here = {one.pseudonym: one for one in copy.patients}
    for patient_id in _identifiers(planted[0]):
        one = there[make_pseudonym(b"s" * 32, patient_id)]
        exported_as = names.patient(patient_id).pseudonym
        other = here[make_pseudonym(b"s" * 32, exported_as)]
        for mine, theirs in zip(
            original.load_scans(one), copy.load_scans(other), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
        # The last patient is 95, and 90 in the copy.
        first = 1 if patient_id in _last(planted[0]) else 0
        np.testing.assert_array_equal(one.clinical[first:], other.clinical[first:])
        assert (one.time_months, one.event) == (other.time_months, other.event)
    assert len(there) == len(here) == 4


def test_times_of_scans_are_counted_from_the_moved_resection(
    planted: PlantedSite, export: Path
) -> None:
    patient = KeyedNames(KEY).patient(_identifiers(planted[0])[0])
    slices = [f for f in _dicom(export, "CT") if f.PatientID == patient.pseudonym]
    moved = {patient.shift_dicom(day) for day in ("19911206", "19920606")}
    assert {file.StudyDate for file in slices} == moved


def test_segmentations_refer_to_the_copied_series(export: Path) -> None:
    slices = _dicom(export, "CT")
    instances = {file.SOPInstanceUID for file in slices}
    for seg in _dicom(export, "SEG"):
        (series,) = seg.ReferencedSeriesSequence
        same = [f for f in slices if f.SeriesInstanceUID == series.SeriesInstanceUID]
        assert {f.StudyInstanceUID for f in same} == {seg.StudyInstanceUID}
        assert {f.FrameOfReferenceUID for f in same} == {seg.FrameOfReferenceUID}
        for frame in seg.PerFrameFunctionalGroupsSequence:
            (source,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert source.ReferencedSOPInstanceUID in instances
    (structures,) = _dicom(export, "RTSTRUCT")
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    (study,) = frame.RTReferencedStudySequence
    assert study.RTReferencedSeriesSequence[0].SeriesInstanceUID in {
        file.SeriesInstanceUID for file in slices
    }


def test_pixels_are_bit_identical(planted: PlantedSite, export: Path) -> None:
    images = planted[0].images_folder
    assert images is not None
    with quiet_dicom():
        theirs = {
            dcmread(path).pixel_array.tobytes()
            for path in images.rglob("*.dcm")
            if "ct" in path.parts
        }
    mine = [file.pixel_array.tobytes() for file in _dicom(export, "CT")]
    assert theirs
    assert set(mine) >= theirs


def test_the_same_key_gives_the_same_bytes(
    planted: PlantedSite, export: Path, tmp_path: Path
) -> None:
    _export(planted[0], tmp_path / "again")
    assert _files(tmp_path / "again") == _files(export)


def test_another_key_gives_names_that_cannot_be_linked(
    planted: PlantedSite, export: Path, tmp_path: Path
) -> None:
    first = frozenset(_identifiers(planted[0])[:1])
    _export(planted[0], tmp_path / "other", key=b"o" * 32, only_patients=first)
    uids = [
        {
            str(element.value)
            for file in _dicom(folder, "CT") + _dicom(folder, "SEG")
            for element in file.iterall()
            if element.VR == "UI" and str(element.value).startswith("2.25.")
        }
        for folder in (export, tmp_path / "other")
    ]
    patients = [
        {path.name for path in (folder / "images").iterdir()}
        for folder in (export, tmp_path / "other")
    ]
    assert len(uids[0]) > 50
    assert not uids[0] & uids[1]
    assert not patients[0] & patients[1]


def test_names_are_not_those_of_the_prepared_store(
    planted: PlantedSite, export: Path
) -> None:
    stored = {make_pseudonym(KEY, one) for one in _identifiers(planted[0])}
    assert not stored & {path.name for path in (export / "images").iterdir()}


@pytest.mark.parametrize("keyword", CT_TYPE_1)
def test_a_slice_has_what_dicom_demands(export: Path, keyword: str) -> None:
    assert all(file.get(keyword) not in (None, "") for file in _dicom(export, "CT"))


@pytest.mark.parametrize("keyword", CT_TYPE_2)
def test_a_slice_has_what_dicom_asks_for(export: Path, keyword: str) -> None:
    assert all(keyword in file for file in _dicom(export, "CT"))


@pytest.mark.parametrize("keyword", SEG_TYPE_1)
def test_a_segmentation_has_what_dicom_demands(export: Path, keyword: str) -> None:
    assert all(file.get(keyword) not in (None, "") for file in _dicom(export, "SEG"))


def test_every_file_passes_a_strict_reader(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pydicom.config.settings
    monkeypatch.setattr(settings, "reading_validation_mode", pydicom.config.RAISE)
    for path in export.rglob("*.dcm"):
        assert len(list(dcmread(path).iterall())) > 40


def test_files_say_what_was_done(export: Path) -> None:
    for file in _dicom(export, "CT") + _dicom(export, "SEG"):
        assert file.PatientIdentityRemoved == "YES"
        assert file.LongitudinalTemporalInformationModified == "MODIFIED"
        codes = [item.CodeValue for item in file.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113105", "113107", "113108"]
        assert file.preamble == bytes(128)


def test_the_manifest_has_the_hash_of_every_file(export: Path) -> None:
    manifest = read_export_manifest(export)
    files = _files(export)
    del files[MANIFEST], files[READ_ME]
    assert {one.file: one.sha256 for one in manifest.files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert (manifest.num_patients, manifest.num_with_scans) == (4, 3)


def test_nobody_but_the_owner_can_read_the_export(export: Path) -> None:
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for path in [export, *export.rglob("*")]
    }
    assert modes == {(True, 0o700), (False, 0o600)}


def test_an_age_above_89_is_90_in_the_table(export: Path) -> None:
    text = (export / "clinical.csv").read_text()
    ages = {row["age"] for row in csv.DictReader(io.StringIO(text))}
    assert ages == {"50", "65", "80", "90"}


def test_rows_stand_in_the_order_of_the_pseudonyms(export: Path) -> None:
    text = (export / "clinical.csv").read_text()
    names = [row["Patient-ID"] for row in csv.DictReader(io.StringIO(text))]
    assert names == sorted(names)


def test_free_text_and_identifiers_are_no_columns(export: Path) -> None:
    columns = set(read_export_manifest(export).columns)
    assert not columns & {"relevant_notes", "De-identify Scout Name"}


def test_some_patients_can_be_exported_alone(
    planted: PlantedSite, tmp_path: Path
) -> None:
    chosen = frozenset(_identifiers(planted[0])[1:2])
    manifest = _export(planted[0], tmp_path / "x", only_patients=chosen).manifest
    assert (manifest.num_patients, manifest.segmentations) == (1, {"RTSTRUCT": 1})


def test_a_patient_who_is_not_in_the_table_is_told_by_number(
    planted: PlantedSite, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="1 of 1 identifiers") as caught:
        _export(planted[0], tmp_path / "x", only_patients=frozenset({"Secret"}))
    assert "Secret" not in str(caught.value)


def test_a_folder_that_is_not_empty_is_refused(
    planted: PlantedSite, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as caught:
        _export(planted[0], tmp_path)
    assert caught.value.code == "machine.folder_not_empty"


def test_an_empty_folder_is_filled(planted: PlantedSite, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0o755)
    _export(planted[0], tmp_path / "x", only_patients=_last(planted[0]))
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o700


def test_a_place_within_the_images_is_refused(planted: PlantedSite) -> None:
    images = planted[0].images_folder
    assert images is not None
    with pytest.raises(ConfigError, match="must not be handed out"):
        _export(planted[0], images / "x")


def test_an_export_that_breaks_off_leaves_nothing(
    planted: PlantedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> bytes:
        raise OSError(28, "no space")

    monkeypatch.setattr(export_module, "copy_table", full)
    with pytest.raises(OSError, match="no space"):
        _export(planted[0], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_in_its_place_before_it_was_noted(
    planted: PlantedSite, tmp_path: Path
) -> None:
    events = export_cohort(
        CRLM,
        planted[0],
        tmp_path / "x",
        site_key=KEY,
        only_patients=_last(planted[0]),
    )
    for event in events:
        if isinstance(event, ExportReady):
            break
    assert not (tmp_path / "x").exists()
    events.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_cannot_be_copied_leaves_no_file(
    planted: PlantedSite, tmp_path: Path
) -> None:
    patient_id = _identifiers(planted[0])[1]
    slices = make_series(patient_id)
    for one in slices:
        # An overlay in the bits that are not in use.
        one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 0
        one.PixelData = np.full((one.Rows, one.Columns), 0x1400, "<u2").tobytes()
    write_segmentation(slices, tmp_path / "images" / "1.dcm", {"Liver": liver_box()})
    write_series(slices, tmp_path / "images" / "ct")
    sources = replace(planted[0], images_folder=tmp_path / "images")
    ready = _export(sources, tmp_path / "x")
    assert ready.left_out == {"BURNED_IN": 1}
    assert sorted(_files(tmp_path / "x")) == [READ_ME, "clinical.csv", MANIFEST]


def test_what_a_crash_left_is_dropped(tmp_path: Path) -> None:
    out = ExportFolder(tmp_path)
    out.write("images/a/1.dcm", b"half")
    out.write("images/b/1.dcm", b"whole")
    out.drop("images/a")
    assert [one.file for one in out.files] == ["images/b/1.dcm"]
    assert not (tmp_path / "images" / "a").exists()


def test_a_description_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DataError):
        read_export_manifest(tmp_path)


def test_the_copied_table_is_read_without_a_mapping(export: Path) -> None:
    table = read_clinical_table(export / "clinical.csv", CRLM)
    assert len(table.rows) == 4


def _last(sources: CohortSources) -> frozenset[str]:
    return frozenset(_identifiers(sources)[3:])
