"""A site whose patients are drawn in different formats, from files to scans."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from references.ct_series import (
    SHAPE,
    liver_box,
    make_series,
    write_segmentation,
    write_series,
)
from references.structure_sets import (
    Contour,
    affine_of,
    box,
    liver_contours,
    write_nifti,
    write_structures,
)

from acfnet_core.cohort.check import ImageCheck, check_cohort
from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.cohort.masks.segmentation import CHOICE_RULE, kind_of
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.preparation_events import CohortFinished
from acfnet_core.cohort.prepared.scan_source import find_scan, open_scan
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError

CRLM = shipped_contract("crlm")
KEY = b"k" * 32
LABELS = {1: ("Liver",), 2: ("Liver", "Tumor")}
FORMATS = {"A-1": "DICOM SEG", "A-2": "RTSTRUCT", "A-3": "NIfTI"}


def _imaging() -> ImagingExpectations:
    assert CRLM.imaging is not None
    return CRLM.imaging


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A site of one patient for each format, the same drawing in all, prepared."""

    sources: CohortSources
    store: Path
    cohort: PreparedCohort
    last: CohortFinished

    @property
    def images(self) -> Path:
        assert self.sources.images_folder is not None
        return self.sources.images_folder


def _write_table(path: Path) -> None:
    rows = [
        {"Patient-ID": patient_id}
        | dict.fromkeys(CRLM.features, "1")
        | {"age": "50", "body_mass_index": "25.5", "clinrisk_score": "3"}
        | {"months_to_DFS_progression": "10", "vital_status_DFS": "1"}
        | {"date_of_liver_resection": "1992-06-20"}
        for patient_id in FORMATS
    ]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_patients(folder: Path) -> None:
    tumour = np.zeros(SHAPE, np.uint8)
    tumour[5, 12:16, 10:14] = 1
    for patient_id, kind in FORMATS.items():
        slices = make_series(patient_id)
        write_series(slices, folder / patient_id)
        if kind == "DICOM SEG":
            masks = {"Liver": liver_box(), "Tumor_1": tumour}
            write_segmentation(slices, folder / "segs" / "1.dcm", masks)
        elif kind == "RTSTRUCT":
            structures: dict[str, list[Contour]] = {
                "Liver": liver_contours(),
                "Tumor_1": [(5, box((12, 10), (15, 13)))],
            }
            write_structures(slices, folder / "structures" / "1.dcm", structures)
        else:
            path = folder / patient_id / "segmentation.nii.gz"
            write_nifti(path, liver_box() + tumour, affine_of(slices), flipped=(1,))


def _prepare(sources: CohortSources, store: Path) -> CohortFinished:
    *_, last = prepare_cohort(CRLM, sources, store, pseudonym_key=KEY, num_workers=1)
    assert isinstance(last, CohortFinished)
    return last


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("site")
    _write_table(folder / "clinical.csv")
    _write_patients(folder / "images")
    sources = CohortSources(
        clinical_table=folder / "clinical.csv",
        images_folder=folder / "images",
        nifti_labels=LABELS,
    )
    store = folder / "store"
    last = _prepare(sources, store)
    cohort = open_store(store, contract=CRLM)
    return Prepared(sources=sources, store=store, cohort=cohort, last=last)


def test_a_scan_is_prepared_from_every_format(prepared: Prepared) -> None:
    assert (prepared.last.num_with_scans, prepared.last.refused) == (3, {})


def test_the_same_drawing_is_the_same_scan_in_every_format(prepared: Prepared) -> None:
    opened = [
        open_scan(
            prepared.store,
            record,
            find_scan(
                prepared.images, patient_id, record, _imaging(), nifti_labels=LABELS
            ),
            _imaging(),
        )
        for patient_id, patient in zip(FORMATS, prepared.cohort.patients, strict=True)
        for record in patient.scans
    ]
    assert len(opened) == 3
    for one in opened[1:]:
        assert one.grid_origin_mm == opened[0].grid_origin_mm
        for channel in ("liver", "tumour"):
            np.testing.assert_array_equal(one.masks[channel], opened[0].masks[channel])


@pytest.mark.parametrize("patient_id", FORMATS)
def test_the_file_that_a_scan_was_prepared_from_is_found(
    patient_id: str, prepared: Prepared
) -> None:
    patient = prepared.cohort.patients[list(FORMATS).index(patient_id)]
    found = find_scan(
        prepared.images,
        patient_id,
        patient.scans[0],
        _imaging(),
        nifti_labels=LABELS,
    )
    assert kind_of(found.segmentation) == FORMATS[patient_id]


@pytest.mark.parametrize("labels", [{}, {1: ("Liver",), 2: ("Tumor",)}])
def test_with_other_labels_a_mask_is_another_source(
    labels: Mapping[int, tuple[str, ...]], prepared: Prepared
) -> None:
    record = prepared.cohort.patients[2].scans[0]
    with pytest.raises(DataError) as caught:
        find_scan(prepared.images, "A-3", record, _imaging(), nifti_labels=labels)
    assert caught.value.code == "data.source_changed"


def test_other_labels_prepare_the_scan_anew(prepared: Prepared, tmp_path: Path) -> None:
    _prepare(prepared.sources, tmp_path)
    before = {path.name for path in tmp_path.rglob("*.safetensors")}
    changed = replace(prepared.sources, nifti_labels={1: ("Liver",), 2: ("Tumor",)})
    _prepare(changed, tmp_path)
    after = {path.name for path in tmp_path.rglob("*.safetensors")}
    assert (len(before & after), len(after)) == (2, 3)


def _check(sources: CohortSources) -> ImageCheck:
    images = check_cohort(CRLM, sources).images
    assert images is not None
    return images


def test_the_check_shows_formats_and_the_rule(prepared: Prepared) -> None:
    images = _check(prepared.sources)
    expected = {"DICOM SEG": 1, "NIfTI": 1, "RTSTRUCT": 1}
    assert images.segmentations_by_kind == images.scans_by_kind == expected
    assert images.segmentation_rule == CHOICE_RULE


def test_the_check_tells_that_labels_are_missing(prepared: Prepared) -> None:
    images = _check(replace(prepared.sources, nifti_labels={}))
    assert images.study_codes == {"NIFTI_NO_LABELS": 1}


def test_the_check_counts_masks_without_a_series(
    prepared: Prepared, tmp_path: Path
) -> None:
    write_series(make_series("A-1"), tmp_path / "ct")
    (tmp_path / "seg.nii.gz").touch()
    images = _check(replace(prepared.sources, images_folder=tmp_path))
    assert images.num_stray_masks == 1
