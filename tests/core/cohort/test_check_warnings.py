import pytest
from references.ct_series import (
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)

from acfnet_core.cohort.check import CheckReport, check_cohort
from acfnet_core.cohort.contract import DataContract, shipped_contract
from acfnet_core.cohort.sources import CohortSources

GENERIC = shipped_contract("generic")
PATIENTS = tuple(f"CANARY-{number:02d}" for number in range(11))


def _contract(**imaging: object) -> DataContract:
    """Return the generic contract, with no expectation of images but those given."""
    assert GENERIC.imaging is not None
    none = {"expected_slice_spacing_mm": None, "expected_pixel_spacing_mm": None}
    changes = {**none, "min_scans": 0, **imaging}
    expectations = GENERIC.imaging.model_copy(update=changes)
    return GENERIC.model_copy(update={"imaging": expectations, "minimum_patients": 5})


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> CohortSources:
    """Eleven patients, one without a scan; headers give three the other sex."""
    folder = tmp_path_factory.mktemp("site")
    header = (
        "patient_id,age,sex,num_metastases,max_metastasis_cm,carcinoembryonic_antigen,"
        "chemo_before_resection,time_months,event"
    )
    rows = [f"{patient},60,m,1,2,3,0,12,1" for patient in PATIENTS]
    table = folder / "clinical.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    for number, patient in enumerate(PATIENTS[1:]):
        slices = make_series(patient)
        for one in slices:
            one.PatientSex = "F" if number < 3 else "M"
            one.PatientAge = "061Y"
            one.SeriesDescription = "Abdomen PORTAL 5mm" if number else "Abdomen"
        images = folder / "images" / patient
        write_segmentation(slices, images / "seg" / "1.dcm", {"Liver": liver_box()})
        write_series(slices, images / "ct")
    return CohortSources(clinical_table=table, images_folder=folder / "images")


def _image_warnings(report: CheckReport) -> dict[str, str]:
    assert report.images is not None
    return {warning.code: warning.text for warning in report.images.warnings}


@pytest.fixture(scope="module")
def report(sources: CohortSources) -> CheckReport:
    return check_cohort(_contract(), sources)


def test_headers_of_the_other_sex_are_warned_of(report: CheckReport) -> None:
    assert report.images is not None
    sex, age = report.images.linkage["sex"], report.images.linkage["age"]
    assert (sex.num_compared, sex.num_agreeing) == (10, 7)
    assert (age.num_compared, age.num_agreeing) == (10, 10)
    warnings = _image_warnings(report)
    assert set(warnings) == {"HEADERS_DISAGREE"}
    assert "sex agrees for 7 of 10 patients" in warnings["HEADERS_DISAGREE"]


def test_a_warning_does_not_keep_the_data_back(report: CheckReport) -> None:
    assert report.is_ready


def test_warnings_have_no_identifier(report: CheckReport) -> None:
    assert "CANARY" not in report.model_dump_json()


def test_the_report_has_the_hash_of_the_mapping(
    report: CheckReport, sources: CohortSources
) -> None:
    assert report.reading_sha256 == sources.reading_sha256()


def test_expectations_that_are_not_met_are_counted(sources: CohortSources) -> None:
    contract = _contract(
        min_scans=1,
        phase_words=("portal", "venous"),
        expected_slice_spacing_mm=(0.5, 4.0),
        expected_pixel_spacing_mm=(0.5, 6.5),
        expected_slice_thickness_mm=(0.5, 0.6),
    )
    report = check_cohort(contract, sources)
    assert report.images is not None
    texts = [one.text for one in report.images.warnings]
    assert any(text.startswith("10 of 10 spacings of slices") for text in texts)
    assert any(text.startswith("10 of 20 spacings of pixels") for text in texts)
    assert any("thicknesses of slices in accepted series" in text for text in texts)
    assert any(text.startswith("1 of 10 accepted series do not") for text in texts)
    assert any(text.startswith("1 of 11 patients have fewer") for text in texts)


def test_too_few_patients_for_a_run_are_warned_of(sources: CohortSources) -> None:
    contract = GENERIC.model_copy(update={"minimum_patients": 20})
    (warning,) = check_cohort(contract, sources).warnings
    assert warning.code == "TOO_FEW_PATIENTS"
    assert warning.text.startswith("11 patients have an outcome")


def test_a_site_with_enough_patients_is_not_warned_of(report: CheckReport) -> None:
    assert report.warnings == ()
