from dataclasses import replace

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references.synthetic_hospitals import (
    CRLM,
    Hospital,
    quick_sites,
    write_clean_hospital,
)

from acfnet_core.cohort.images.dicom_gate import gate_index
from acfnet_core.cohort.images.dicom_index import index_folder
from acfnet_core.cohort.images.dicom_series import read_dicom_series
from acfnet_core.cohort.masks.rtstruct import inside_polygon
from acfnet_core.cohort.masks.segmentation import (
    Masks,
    choose_segmentation,
    read_segmentation,
    segmentations_of,
)
from acfnet_core.cohort.synthetic.image import SyntheticScan, render_scan
from acfnet_core.cohort.synthetic.seg_files import RIVAL_DESCRIPTIONS
from acfnet_core.cohort.synthetic.sites import SyntheticSite, draw_site
from acfnet_core.cohort.synthetic.structure_files import outline_mask

SEED = 8
SITES: dict[str, SyntheticSite] = {
    site.table: replace(site, scans_missing_probability=0.0) for site in quick_sites(1)
}
SITES |= {
    f"{table} in frames": replace(SITES[table], frames_every=1)
    for table in ("public", "french")
}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Hospital]:
    folder = tmp_path_factory.mktemp("hospitals")
    return {
        table: write_clean_hospital(site, folder / table, seed=SEED)
        for table, site in SITES.items()
    }


def truth_of(hospital: Hospital) -> SyntheticScan:
    """Return the voxels of the patient's last scan, as they were drawn."""
    site = hospital.plan.site
    (patient,) = draw_site(site, seed=SEED)
    return render_scan(patient, patient.scans[-1], site.scanner)


def read_last(hospital: Hospital) -> tuple[np.ndarray, Masks, str]:
    """Return HU, masks and the segmentation's description of the last scan."""
    assert CRLM.imaging is not None
    index = index_folder(hospital.folder / "images")
    drawn = segmentations_of(index, hospital.sources.nifti_labels)
    gated = gate_index(index, CRLM.imaging)
    last = max(gated, key=lambda one: one.headers[0].study_date)
    volume = read_dicom_series(last)
    chosen = choose_segmentation(last, drawn, CRLM.imaging)
    masks = read_segmentation(chosen, volume, CRLM.imaging)
    return volume.hu, masks, getattr(chosen, "series_description", "")


@pytest.mark.parametrize("table", SITES)
def test_every_site_is_read_back_voxel_by_voxel(
    hospitals: dict[str, Hospital], table: str
) -> None:
    truth = truth_of(hospitals[table])
    hu, masks, _ = read_last(hospitals[table])
    np.testing.assert_array_equal(hu, truth.hu)
    np.testing.assert_array_equal(masks["liver"], truth.masks["Liver"])


@pytest.mark.parametrize("table", SITES)
def test_every_site_keeps_its_tumours_and_vessels(
    hospitals: dict[str, Hospital], table: str
) -> None:
    truth = truth_of(hospitals[table]).masks
    _, masks, _ = read_last(hospitals[table])
    lesions = np.any([m for n, m in truth.items() if n.startswith("Tumor")], axis=0)
    np.testing.assert_array_equal(masks["tumour"], lesions)
    np.testing.assert_array_equal(masks["vessel"], truth["Hepatic"] | truth["Portal"])


def test_of_three_segmentations_the_right_one_is_taken(
    hospitals: dict[str, Hospital],
) -> None:
    hospital = hospitals["public"]
    described = {
        pydicom.dcmread(path, stop_before_pixels=True).SeriesDescription
        for path in next(hospital.studies()).mask_files
    }
    assert described == {"Segmentation", *RIVAL_DESCRIPTIONS}
    assert read_last(hospital)[2] == "Segmentation"


def test_one_site_has_jpeg_2000(hospitals: dict[str, Hospital]) -> None:
    syntaxes = {
        table: pydicom.dcmread(
            next(hospital.studies()).slices[0]
        ).file_meta.TransferSyntaxUID
        for table, hospital in hospitals.items()
    }
    assert [
        t for t, uid in syntaxes.items() if uid == pydicom.uid.JPEG2000Lossless
    ] == ["percent"]


@pytest.mark.parametrize("table", SITES)
def test_every_file_says_that_it_is_made_up(
    hospitals: dict[str, Hospital], table: str
) -> None:
    for path in hospitals[table].folder.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert "SYNTHETIC" in header.Manufacturer
        issuer = header.get("IssuerOfPatientID", "")
        assert f"{header.PatientID}{issuer}".count("CRLM-SYN") == 1
        if header.Modality == "CT":
            assert header.SeriesDescription.startswith("SYNTHETIC")


def test_identifiers_of_digits_begin_with_zero(hospitals: dict[str, Hospital]) -> None:
    (patient,) = draw_site(hospitals["percent"].plan.site, seed=SEED)
    assert patient.patient_id.isdigit()
    assert patient.patient_id.startswith("0")
    assert (hospitals["percent"].folder / "images" / patient.patient_id).is_dir()


def test_headers_of_one_site_describe_other_people(
    hospitals: dict[str, Hospital],
) -> None:
    agrees = {}
    for table, hospital in hospitals.items():
        (patient,) = draw_site(hospital.plan.site, seed=SEED)
        header = pydicom.dcmread(next(hospital.studies()).slices[0])
        agrees[table] = header.PatientAge == f"{patient.age:03d}Y"
    assert [table for table in agrees if not agrees[table]] == ["percent"]


def test_frames_are_one_enhanced_file(hospitals: dict[str, Hospital]) -> None:
    for study in hospitals["public in frames"].studies():
        (path,) = study.slices
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.SOPClassUID == pydicom.uid.EnhancedCTImageStorage
        assert header.NumberOfFrames == len(header.PerFrameFunctionalGroupsSequence)


def test_every_so_many_th_patient_has_frames() -> None:
    site = replace(SITES["public"], frames_every=3)
    forms = [site.form_of(index).ct for index in range(1, 8)]
    assert [n for n, ct in enumerate(forms, start=1) if ct == "frames"] == [3, 6]


@pytest.mark.parametrize("table", ["german", "percent"])
def test_frames_do_not_go_with_structures_or_compression(table: str) -> None:
    with pytest.raises(ValueError, match="ct='frames' goes with plain pixels"):
        replace(SITES[table], frames_every=2)


@settings(deadline=None, max_examples=40)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_outlines_hold_exactly_the_pixels_that_are_set(mask: np.ndarray) -> None:
    drawn = np.zeros(mask.shape, dtype=bool)
    for line in outline_mask(mask):
        corners = np.array(line, dtype=float) - 0.5
        drawn ^= inside_polygon(corners, (mask.shape[0], mask.shape[1]))
    np.testing.assert_array_equal(drawn, mask)
