import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from acfnet_core.cohort.contract import ImagingExpectations, shipped_contract
from acfnet_core.model.inputs import PatientInputs
from acfnet_core.training.augmentation import Augmentation, rotation
from acfnet_core.training.settings import AugmentationSettings

GRID = (8, 12, 10)
SPACING_MM = (6.0, 5.0, 4.0)
NOTHING = AugmentationSettings(
    rotation_degrees=0.0, scale_share=0.0, shift_mm=0.0, gain_sd=0.0, offset_sd_hu=0.0
)


def imaging() -> ImagingExpectations:
    found = shipped_contract("crlm").imaging
    assert found is not None
    return found.model_copy(update={"grid_shape": GRID, "grid_spacing_mm": SPACING_MM})


def augmentation(seed: int = 7, **changes: float) -> Augmentation:
    chosen = NOTHING.model_copy(update=changes)
    return Augmentation(settings=chosen, imaging=imaging(), seed=seed)


def patients(num_patients: int = 2, num_scans: int = 2) -> PatientInputs:
    generator = torch.Generator().manual_seed(3)
    scans = torch.rand(num_patients, num_scans, 4, *GRID, generator=generator) * 4 - 2
    scans[:, :, 1:] = (scans[:, :, 1:] > 0).float()
    return PatientInputs(
        scans=scans,
        scan_time_months=torch.zeros(num_patients, num_scans),
        scan_mask=torch.ones(num_patients, num_scans, dtype=torch.bool),
        channel_mask=torch.ones(num_patients, num_scans, 4, dtype=torch.bool),
        clinical=torch.zeros(num_patients, 3),
        clinical_mask=torch.ones(num_patients, 3, dtype=torch.bool),
    )


def test_without_any_change_the_scans_are_what_they_were() -> None:
    inputs = patients()
    changed = augmentation().change(inputs, [4, 9], step=1)
    torch.testing.assert_close(changed.scans, inputs.scans, atol=1e-5, rtol=0)


def test_the_inputs_are_left_alone() -> None:
    inputs = patients()
    before = inputs.scans.clone()
    augmentation(rotation_degrees=20.0, offset_sd_hu=9.0).change(inputs, [0, 1], step=1)
    assert torch.equal(inputs.scans, before)


def test_a_patient_is_changed_alike_whoever_shares_the_batch() -> None:
    inputs = patients()
    changer = augmentation(rotation_degrees=9.0, shift_mm=4.0, offset_sd_hu=5.0)
    both = changer.change(inputs, [4, 9], step=3).scans
    alone = patients()
    second = PatientInputs(**{k: v[1:] for k, v in vars(alone).items()})
    assert torch.equal(changer.change(second, [9], step=3).scans[0], both[1])


@pytest.mark.parametrize("other", [{"step": 2}, {"patient": 5}, {"seed": 8}])
def test_another_step_patient_or_seed_changes_otherwise(other: dict[str, int]) -> None:
    def changed(step: int = 1, patient: int = 4, seed: int = 7) -> torch.Tensor:
        changer = augmentation(seed, rotation_degrees=9.0)
        return changer.change(patients(1), [patient], step=step).scans

    assert not torch.equal(changed(), changed(**other))


def test_all_scans_of_a_patient_move_alike() -> None:
    inputs = patients(1)
    inputs.scans[0, 1] = inputs.scans[0, 0]
    changer = augmentation(rotation_degrees=15.0, scale_share=0.1, shift_mm=8.0)
    scans = changer.change(inputs, [0], step=1).scans
    assert torch.equal(scans[0, 0], scans[0, 1])


def test_masks_stay_masks() -> None:
    changer = augmentation(rotation_degrees=15.0, shift_mm=8.0, gain_sd=0.1)
    masks = changer.change(patients(), [0, 1], step=1).scans[:, :, 1:]
    assert set(masks.flatten().tolist()) == {0.0, 1.0}


def test_a_scan_is_sampled_where_millimetres_say() -> None:
    changer = augmentation(rotation_degrees=20.0, scale_share=0.1, shift_mm=6.0)
    inputs = patients(1, 1)
    theta, _, _ = changer._draw(0, 1, 1)
    changed = changer.change(inputs, [0], step=1).scans[0, 0, 0].numpy()
    half = np.array(GRID[::-1]) * np.array(SPACING_MM[::-1]) / 2
    turn = theta[:, :3].numpy() * half[:, None] / half
    shift = theta[:, 3].numpy() * half
    z, y, x = np.meshgrid(*map(np.arange, GRID), indexing="ij")
    index = np.stack([x, y, z], axis=-1)
    spacing = np.array(SPACING_MM[::-1])
    place_mm = (index + 0.5) * spacing - half
    source = ((place_mm @ turn.T + shift + half) / spacing - 0.5)[..., ::-1]
    expected = map_coordinates(
        inputs.scans[0, 0, 0].numpy(),
        np.moveaxis(source, -1, 0),
        order=1,
        mode="nearest",
    )
    np.testing.assert_allclose(changed, expected, atol=1e-4)
    size = np.cbrt(np.linalg.det(turn))
    assert 1 / 1.1 <= size <= 1.1
    np.testing.assert_allclose(turn @ turn.T / size**2, np.eye(3), atol=1e-6)
    assert np.abs(shift).max() <= 6.0


def test_brightness_changes_a_scan_in_hu() -> None:
    inputs = patients(1, 2)
    changer = augmentation(gain_sd=0.05, offset_sd_hu=8.0)
    _, gain, offset = changer._draw(0, 1, 2)
    changed = changer.change(inputs, [0], step=1).scans[0, :, 0]
    window = imaging()
    hu = inputs.scans[0, :, 0] * window.window_width_hu + window.window_centre_hu
    offset_hu = (
        offset * window.window_width_hu - window.window_centre_hu * (gain - 1)
    ).view(2, 1, 1, 1)
    expected = (hu * gain.view(2, 1, 1, 1) + offset_hu - window.window_centre_hu) / (
        window.window_width_hu
    )
    clip = window.window_clip
    torch.testing.assert_close(changed, expected.clamp(-clip, clip), atol=1e-4, rtol=0)
    assert gain[0].item() != gain[1].item()


def test_air_stays_air() -> None:
    inputs = patients(1, 1)
    inputs.scans[0, 0, 0] = -imaging().window_clip
    changed = augmentation(gain_sd=0.2, offset_sd_hu=50.0).change(inputs, [0], step=1)
    assert torch.equal(changed.scans[0, 0, 0], inputs.scans[0, 0, 0])


def test_patients_without_scans_are_left_alone() -> None:
    inputs = patients(2, 0)
    assert augmentation(shift_mm=5.0).change(inputs, [0, 1], step=1) is inputs


def test_every_patient_needs_an_index() -> None:
    with pytest.raises(ValueError, match="got 1 indices for 2 patients"):
        augmentation().change(patients(), [0], step=1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-0.8, 0.8), min_size=3, max_size=3))
def test_a_rotation_mirrors_nothing(angles: list[float]) -> None:
    turn = rotation(torch.tensor(angles, dtype=torch.float64))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(turn).item() == pytest.approx(1.0)
