import dataclasses

import torch
from references.model_inputs import make_inputs, with_gaps

from acfnet_core.model.inputs import channels_beside, hide_missing


def test_hidden_places_hold_zero() -> None:
    inputs = with_gaps(make_inputs(), filler=float("nan"))
    hidden = hide_missing(inputs)
    assert hidden.scans.isfinite().all()
    assert (hidden.clinical[~hidden.clinical_mask] == 0).all()


def test_known_places_are_kept() -> None:
    inputs = make_inputs()
    assert torch.equal(hide_missing(inputs).clinical, inputs.clinical)


def test_scans_are_put_in_order_of_time() -> None:
    hidden = hide_missing(make_inputs(num_scans=4))
    assert (hidden.scan_time_months.diff(dim=1) >= 0).all()


def test_missing_scans_come_last() -> None:
    inputs = make_inputs(num_scans=3)
    inputs.scan_mask[:, 0] = False
    assert hide_missing(inputs).scan_mask.tolist() == [[True, True, False]] * 3


def test_a_scan_without_any_channel_is_no_scan() -> None:
    inputs = make_inputs(num_patients=1)
    inputs.channel_mask[0, 1] = False
    assert hide_missing(inputs).scan_mask.tolist() == [[True, False]]


def test_moving_keeps_every_tensor() -> None:
    inputs = make_inputs()
    moved = inputs.to("cpu")
    for field in dataclasses.fields(inputs):
        assert torch.equal(getattr(moved, field.name), getattr(inputs, field.name))


def test_laying_channels_beside_each_other_changes_no_value() -> None:
    scans = make_inputs().scans
    assert torch.equal(channels_beside(scans), scans)


def test_channels_laid_beside_each_other_are_neighbours_in_memory() -> None:
    laid = channels_beside(make_inputs().scans)
    assert laid.stride(2) == 1
    assert laid.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)


def test_what_lies_beside_each_other_is_not_copied_again() -> None:
    laid = channels_beside(make_inputs().scans)
    assert channels_beside(laid).data_ptr() == laid.data_ptr()


def test_a_batch_without_scans_can_be_laid_out() -> None:
    assert channels_beside(make_inputs().scans[:, :0]).shape[1] == 0


def test_hiding_keeps_the_channels_beside_each_other() -> None:
    inputs = make_inputs()
    inputs.channel_mask[0, 0, 1] = False
    laid = dataclasses.replace(inputs, scans=channels_beside(inputs.scans))
    assert hide_missing(laid).scans.stride(2) == 1
