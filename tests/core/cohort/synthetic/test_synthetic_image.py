import dataclasses

import numpy as np
import pytest

from acfnet_core.cohort.synthetic.grid import Scanner
from acfnet_core.cohort.synthetic.image import SyntheticScan, render_scan
from acfnet_core.cohort.synthetic.patient import SyntheticPatient, draw_patient

QUIET = Scanner(slice_spacing_mm=5.0, pixel_spacing_mm=3.3, noise_hu=0.0, hu_shift=0.0)


def draw(index: int = 2) -> SyntheticPatient:
    return draw_patient("hospital-a", index, seed=1, scans_missing_probability=0.0)


def with_texture(patient: SyntheticPatient, texture: float) -> SyntheticPatient:
    latents = dataclasses.replace(patient.latents, texture=texture)
    return dataclasses.replace(patient, latents=latents)


def healthy_liver(scan: SyntheticScan) -> np.ndarray:
    """Return the HU of the liver without its vessels, its tumours and its rim."""
    masks = scan.masks
    inner = masks["Liver"].copy()
    for axis in range(3):
        for step in (-2, 2):
            inner &= np.roll(masks["Liver"], step, axis=axis)
    for name, mask in masks.items():
        if not name.startswith("Liver"):
            inner &= ~mask
    return scan.hu[inner].astype(np.float64)


@pytest.fixture(scope="module")
def scan() -> SyntheticScan:
    patient = draw()
    return render_scan(patient, patient.scans[-1], QUIET)


def test_segments_are_those_of_the_public_cohort(scan: SyntheticScan) -> None:
    expected = ["Liver", "Liver Remnant", "Hepatic", "Portal"]
    expected += [f"Tumor_{number}" for number in range(1, len(draw().tumours) + 1)]
    assert list(scan.masks) == expected


def test_every_segment_lies_in_the_liver_and_is_not_empty(scan: SyntheticScan) -> None:
    for mask in scan.masks.values():
        assert mask.any()
        assert not (mask & ~scan.masks["Liver"]).any()


def test_liver_has_a_human_volume_and_fits_the_models_grid(
    scan: SyntheticScan,
) -> None:
    millilitres = scan.masks["Liver"].sum() * np.prod(scan.spacing_mm) / 1000
    assert 700 < millilitres < 2500
    places = np.nonzero(scan.masks["Liver"])
    extent_mm = [
        (np.ptp(place) + 1) * step
        for place, step in zip(places, scan.spacing_mm, strict=True)
    ]
    assert all(np.array(extent_mm) <= (144, 240, 240))


def test_remnant_has_the_planned_share_and_no_tumour(scan: SyntheticScan) -> None:
    lesions = [mask for name, mask in scan.masks.items() if name.startswith("Tumor")]
    is_tumour = np.any(lesions, axis=0)
    assert not (scan.masks["Liver Remnant"] & is_tumour).any()
    share = scan.masks["Liver Remnant"].sum() / scan.masks["Liver"].sum()
    planned = draw().liver.remnant_fraction
    assert planned - is_tumour.sum() / scan.masks["Liver"].sum() - 0.02 < share
    assert share < planned + 0.02


def test_tissues_have_their_attenuation(scan: SyntheticScan) -> None:
    assert scan.hu[:, 0, 0].max() < -900
    assert 85 < healthy_liver(scan).mean() < 115
    assert scan.hu[scan.masks["Portal"]].mean() > 110
    assert scan.hu[scan.masks["Tumor_1"]].mean() < 75


def test_largest_tumour_has_the_volume_of_its_diameter() -> None:
    patient = draw()
    scan = render_scan(patient, patient.scans[-1], QUIET)
    diameter_mm = patient.tumours[0].diameter_mm * patient.scans[-1].diameter_factor
    found = scan.masks["Tumor_1"].sum() * np.prod(scan.spacing_mm)
    assert found == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.15)


def test_texture_trait_shows_as_variation_of_the_liver() -> None:
    patient = draw()
    spreads = [
        healthy_liver(
            render_scan(with_texture(patient, texture), patient.scans[-1], QUIET)
        ).std()
        for texture in (-1.5, 0.0, 1.5)
    ]
    assert spreads[0] < 0.75 * spreads[1] < 0.6 * spreads[2]


def test_site_shift_moves_every_tissue_alike() -> None:
    patient = draw()
    shifted = dataclasses.replace(QUIET, hu_shift=5.0)
    plain = render_scan(patient, patient.scans[-1], QUIET)
    moved = render_scan(patient, patient.scans[-1], shifted)
    assert (moved.hu - plain.hu == 5).all()


def test_site_noise_has_the_stated_size() -> None:
    patient = draw()
    noisy = dataclasses.replace(QUIET, noise_hu=12.0)
    plain = render_scan(patient, patient.scans[-1], QUIET)
    seen = render_scan(patient, patient.scans[-1], noisy)
    assert (seen.hu - plain.hu)[plain.hu > -500].std() == pytest.approx(12.0, rel=0.03)


@pytest.mark.parametrize(("spacing", "num_slices"), [(2.5, 62), (5.0, 31), (7.5, 20)])
def test_number_of_slices_follows_from_their_spacing(
    spacing: float, num_slices: int
) -> None:
    patient = draw()
    scanner = dataclasses.replace(QUIET, slice_spacing_mm=spacing)
    scan = render_scan(patient, patient.scans[-1], scanner)
    assert scan.hu.shape == (num_slices, 96, 96)


def test_scans_of_a_patient_differ_in_position_and_noise() -> None:
    patient = next(p for p in map(draw, range(1, 30)) if len(p.scans) > 1)
    first, second = (render_scan(patient, plan, QUIET) for plan in patient.scans[:2])
    assert first.first_voxel_mm != second.first_voxel_mm
    assert (first.masks["Liver"] != second.masks["Liver"]).any()
