from pathlib import Path

import highdicom
import numpy as np
import openpyxl
import pydicom
import pytest
from highdicom.spatial import get_series_volume_positions

from acfnet_core.cohort.synthetic.identifiers import make_uid
from acfnet_core.cohort.synthetic.image import SyntheticScan, render_scan
from acfnet_core.cohort.synthetic.patient import SyntheticPatient, draw_patient
from acfnet_core.cohort.synthetic.sites import SyntheticSite, synthesize_site
from acfnet_core.cohort.synthetic.table import COLUMNS, MISSING

SEED = 5
SITE = SyntheticSite(
    name="hospital-c",
    num_patients=3,
    slice_spacing_mm=7.5,
    pixel_spacing_mm=3.3,
    noise_hu=6.0,
    hu_shift=5.0,
    scans_missing_probability=0.0,
)


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    list(synthesize_site(SITE, folder, seed=SEED, num_workers=1))
    return folder


@pytest.fixture(scope="module")
def patient() -> SyntheticPatient:
    return draw_patient(SITE.name, 1, seed=SEED, scans_missing_probability=0.0)


@pytest.fixture(scope="module")
def truth(patient: SyntheticPatient) -> SyntheticScan:
    return render_scan(patient, patient.scans[-1], SITE.scanner)


@pytest.fixture(scope="module")
def study(site_folder: Path, patient: SyntheticPatient) -> Path:
    day = f"{patient.scans[-1].study_date:%m-%d-%Y}"
    (found,) = (site_folder / "images" / patient.patient_id).glob(f"{day}-*")
    return found


@pytest.fixture(scope="module")
def slices(study: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(study.glob("100.*/*.dcm"))]


@pytest.fixture(scope="module")
def segmentation(study: Path) -> highdicom.seg.Segmentation:
    (path,) = study.glob("300.*/1-1.dcm")
    return highdicom.seg.segread(path)


@pytest.fixture(scope="module")
def rows(site_folder: Path) -> list[dict[str, object]]:
    table = openpyxl.load_workbook(site_folder / "clinical.xlsx").worksheets[0]
    header, *lines = table.iter_rows(values_only=True)
    return [dict(zip(map(str, header), line, strict=True)) for line in lines]


def test_slices_hold_the_exact_hu(
    slices: list[pydicom.Dataset], truth: SyntheticScan
) -> None:
    read = [
        item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept)
        for item in slices
    ]
    np.testing.assert_array_equal(np.stack(read), truth.hu)


def test_slices_form_a_regular_volume_of_the_sites_spacing(
    slices: list[pydicom.Dataset],
) -> None:
    spacing_mm, positions = get_series_volume_positions(slices)
    assert spacing_mm == pytest.approx(7.5)
    # highdicom counts along the normal of the image, here from head to foot or back.
    assert positions in (
        list(range(len(slices))),
        list(range(len(slices)))[::-1],
    )
    assert list(slices[0].PixelSpacing) == [3.3, 3.3]


def test_first_voxel_lies_where_the_header_says(
    slices: list[pydicom.Dataset], truth: SyntheticScan
) -> None:
    position_mm = [float(value) for value in slices[0].ImagePositionPatient]
    assert position_mm == pytest.approx(truth.first_voxel_mm, abs=1e-3)


def test_header_marks_an_original_synthetic_portal_venous_ct(
    slices: list[pydicom.Dataset],
) -> None:
    first = slices[0]
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert list(first.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert "SYNTHETIC" in first.SeriesDescription


def test_header_agrees_with_the_table(
    slices: list[pydicom.Dataset], rows: list[dict[str, object]]
) -> None:
    first, row = slices[0], rows[0]
    assert first.PatientID == row["Patient-ID"]
    assert first.PatientAge == f"{row['age']:03d}Y"
    assert first.PatientSex == {1: "M", 2: "F"}[int(str(row["sex"]))]


def test_segmentation_has_the_voxels_of_every_mask(
    segmentation: highdicom.seg.Segmentation, truth: SyntheticScan
) -> None:
    volume = segmentation.get_volume(combine_segments=False)
    counts = volume.array.sum(axis=(0, 1, 2))
    labels = [segment.SegmentLabel for segment in segmentation.SegmentSequence]
    assert dict(zip(labels, counts, strict=True)) == {
        name: mask.sum() for name, mask in truth.masks.items()
    }


def test_segmentation_lies_on_the_ct(
    study: Path,
    segmentation: highdicom.seg.Segmentation,
    slices: list[pydicom.Dataset],
    truth: SyntheticScan,
) -> None:
    ct = highdicom.get_volume_from_series(slices)
    volume = segmentation.get_volume(segment_numbers=[1], combine_segments=True)
    matched = volume.match_geometry(ct).array > 0
    ascending = matched if ct.affine[2, 0] > 0 else matched[::-1]
    np.testing.assert_array_equal(ascending, truth.masks["Liver"])


def test_segmentation_covers_a_part_of_the_slices(
    segmentation: highdicom.seg.Segmentation, slices: list[pydicom.Dataset]
) -> None:
    assert segmentation.get_volume(combine_segments=False).shape[0] < len(slices)


def test_segmentation_shares_the_patient_the_study_and_the_frame(
    segmentation: highdicom.seg.Segmentation, slices: list[pydicom.Dataset]
) -> None:
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert getattr(segmentation, name) == getattr(slices[0], name)
    (referenced,) = segmentation.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == slices[0].SeriesInstanceUID


def test_no_identifier_occurs_twice(site_folder: Path) -> None:
    uids = [
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for path in site_folder.rglob("*.dcm")
    ]
    assert len(set(uids)) == len(uids)


def test_identifier_is_valid_and_follows_from_what_it_names() -> None:
    assert make_uid("ct", "study", 1) == make_uid("ct", "study", 1)
    assert make_uid("ct", "study", 1) != make_uid("ct", "study", 2)
    assert pydicom.uid.UID(make_uid("ct", "study", 1)).is_valid


def test_workbook_has_every_column_and_a_row_for_each_patient(
    rows: list[dict[str, object]],
) -> None:
    assert len(rows) == SITE.num_patients
    assert all(list(row) == list(COLUMNS) for row in rows)


def test_workbook_reads_back_as_drawn(
    rows: list[dict[str, object]], patient: SyntheticPatient
) -> None:
    row = dict(rows[0])
    resection = row.pop("date_of_liver_resection")
    drawn = dict(patient.row)
    assert str(resection)[:10] == str(drawn.pop("date_of_liver_resection"))
    assert row == {
        name: None if value == "" else value for name, value in drawn.items()
    }


def test_missing_values_are_written_as_the_public_cohort_does() -> None:
    drawn = [
        draw_patient(SITE.name, index, seed=SEED, scans_missing_probability=0.0)
        for index in range(1, 60)
    ]
    assert any(patient.row["clinrisk_score"] == MISSING for patient in drawn)


def test_second_sheet_explains_every_column(site_folder: Path) -> None:
    sheet = openpyxl.load_workbook(site_folder / "clinical.xlsx").worksheets[1]
    explained = {row[0]: row[1] for row in sheet.iter_rows(values_only=True)}
    assert sheet.title == "data dictionary"
    assert all(explained[name] for name in COLUMNS)
