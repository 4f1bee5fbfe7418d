from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from references.synthetic_hospitals import (
    Hospital,
    quick_sites,
    write_clean_hospital,
)

from acfnet_core.cohort.images.refusals import GATE_CODES, REASONS
from acfnet_core.cohort.synthetic.defects import DEFECTS
from acfnet_core.cohort.synthetic.hospital import possible_defects
from acfnet_core.cohort.synthetic.study_files import MaskFormat

SEED = 3
MASKS = get_args(MaskFormat)
PUBLIC, GERMAN, _, FRENCH = quick_sites(1)
SITES = {
    "DICOM SEG": PUBLIC,
    "RTSTRUCT": GERMAN,
    "NIfTI": FRENCH,
    "frames": replace(PUBLIC, frames_every=1),
    "frames with NIfTI": replace(FRENCH, frames_every=1),
}
WHOLE = ("DICOM SEG", "frames")
"""What happens to a CT is the same whatever the format of the masks."""
OF_CT = [kind for kind, defect in DEFECTS.items() if len(defect.formats) == len(MASKS)]
CASES = [
    (name, kind)
    for name, site in SITES.items()
    for kind in possible_defects(site)
    if name in WHOLE or kind not in OF_CT
]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Hospital]:
    folder = tmp_path_factory.mktemp("hospitals")
    return {
        name: write_clean_hospital(site, folder / name, seed=SEED)
        for name, site in SITES.items()
    }


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_each_defect_is_found_as_the_catalogue_says(
    hospitals: dict[str, Hospital], tmp_path: Path, name: str, kind: str
) -> None:
    hospital = hospitals[name].copy(tmp_path / "hospital")
    defect = DEFECTS[kind]
    defect.plant(next(hospital.studies()))
    images = hospital.check().images
    assert images is not None
    assert tuple(images.series_codes) == tuple(sorted(defect.series_codes))
    in_check = defect.study_codes if defect.found_by == "check" else ()
    assert tuple(images.study_codes) == tuple(sorted(in_check))
    assert images.num_files_ignored == defect.num_ignored
    assert images.num_files_broken == defect.num_broken
    assert images.num_patients_not_in_table == defect.num_strangers


@pytest.mark.parametrize(
    ("name", "kind"),
    [case for case in CASES if DEFECTS[case[1]].found_by == "prepare"],
)
def test_what_headers_do_not_show_is_found_by_the_preparation(
    hospitals: dict[str, Hospital], tmp_path: Path, name: str, kind: str
) -> None:
    hospital = hospitals[name].copy(tmp_path / "hospital")
    DEFECTS[kind].plant(next(hospital.studies()))
    _, refused = hospital.prepare(tmp_path / "store")
    assert [one.codes for one in refused] == [DEFECTS[kind].study_codes]


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_promises_codes_that_exist(kind: str) -> None:
    defect = DEFECTS[kind]
    assert set(defect.series_codes) <= set(GATE_CODES)
    assert set(defect.study_codes) <= set(REASONS)


def test_a_clean_hospital_of_every_format_gives_all_its_scans(
    hospitals: dict[str, Hospital],
) -> None:
    for hospital in hospitals.values():
        images = hospital.check().images
        assert images is not None
        masks = hospital.plan.site.form.masks
        assert images.scans_by_kind == {masks: images.num_series}


def test_a_defect_is_planted_the_same_way_twice(
    hospitals: dict[str, Hospital], tmp_path: Path
) -> None:
    contents = []
    for name in ("first", "second"):
        copy = hospitals["DICOM SEG"].copy(tmp_path / name)
        study = next(copy.studies())
        for kind in ("gantry_tilt", "duplicate_slice", "segmentation_off_grid"):
            DEFECTS[kind].plant(study)
        files = (*study.slices, *study.mask_files)
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
