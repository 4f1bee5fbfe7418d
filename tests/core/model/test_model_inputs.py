import dataclasses

import torch
from references.model_inputs import make_inputs, with_gaps

from acfnet_core.model.inputs import hide_missing


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
