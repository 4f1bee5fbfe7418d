import torch

from acfnet_core.model.timestamps import (
    VirtualTimestampEncoder,
    mix_scans,
    time_code,
    year_midpoints_months,
)

ONE = torch.tensor([[True]])
TWO = torch.tensor([[True, True]])


def _scans(num_scans: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, num_scans, 8, 2, 2, 2, generator=generator)


def _encoder() -> VirtualTimestampEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return VirtualTimestampEncoder(8, 5, 2)


def test_a_year_stands_for_its_middle() -> None:
    assert year_midpoints_months(3).tolist() == [6.0, 18.0, 30.0]


def test_time_code_tells_before_from_after() -> None:
    before, after = time_code(torch.tensor([-3.0, 3.0]))
    assert not torch.allclose(before, after)


def test_one_scan_gives_a_modulated_copy_in_every_year() -> None:
    """Each year is the scan, scaled and shifted by one number a channel."""
    scans = _scans(1)
    years = _encoder()(scans, torch.tensor([[-1.0]]), ONE)
    scan, year = scans[0, 0, 0].flatten(), years[0, 3, 0].flatten()
    slope = (year[0] - year[1]) / (scan[0] - scan[1])
    shift = year[0] - slope * scan[0]
    assert torch.allclose(year, slope * scan + shift, atol=1e-5)


def test_years_differ_from_each_other() -> None:
    years = _encoder()(_scans(1), torch.tensor([[-1.0]]), ONE)
    assert not torch.allclose(years[:, 0], years[:, 4])


def test_the_age_of_a_single_scan_matters() -> None:
    encoder, scans = _encoder(), _scans(1)
    early = encoder(scans, torch.tensor([[-1.0]]), ONE)
    late = encoder(scans, torch.tensor([[11.0]]), ONE)
    assert not torch.allclose(early, late)


def test_heads_start_apart_even_between_scans_of_one_half_year() -> None:
    share = _encoder().look(torch.tensor([[-6.0, -1.0]]), TWO).share
    latest = share[0, :, 1]
    assert (latest.max(dim=1).values - latest.min(dim=1).values > 0.1).all()


def test_shares_of_a_year_sum_to_one() -> None:
    share = _encoder().look(torch.tensor([[-6.0, -1.0]]), TWO).share
    torch.testing.assert_close(share.sum(dim=2), torch.ones(1, 5, 2))


def test_mixing_takes_each_run_of_channels_by_its_head() -> None:
    volumes = torch.arange(6.0).reshape(1, 2, 3, 1, 1, 1)
    share = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 1, 2, 2)
    mixed = mix_scans(volumes, share).flatten()
    # Channels 0 and 1 belong to head 0, which takes scan 0; channel 2 to head 1.
    assert mixed.tolist() == [0.0, 1.0, 5.0]


def test_years_weigh_scans_by_their_distance() -> None:
    encoder = _encoder()
    share = encoder.look(torch.tensor([[-7.0, 20.0]]), TWO).share
    assert not torch.allclose(share[..., 0, :], share[..., 1, :])


def test_a_masked_scan_has_no_share() -> None:
    view = _encoder().look(torch.zeros(1, 2), torch.tensor([[True, False]]))
    assert (view.share[:, :, 1] == 0).all()


def test_a_patient_without_scans_gets_finite_filler() -> None:
    mask = torch.zeros(1, 2, dtype=torch.bool)
    assert _encoder()(_scans(2), torch.zeros(1, 2), mask).isfinite().all()
