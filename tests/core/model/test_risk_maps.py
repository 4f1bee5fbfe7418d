import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.model.risk_maps import RiskMapReadout, upsample_risk_maps


def _maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8))


def test_a_year_s_map_sums_to_its_logit() -> None:
    read = RiskMapReadout(6, 4)(_maps(2, 3, 6, 2, 3, 4))
    total = read.risk_maps.sum(dim=(2, 3, 4))
    assert torch.allclose(total, read.year_logits, atol=1e-6)


@given(
    cells=st.tuples(*[st.integers(1, 4)] * 3),
    extra=st.tuples(*[st.integers(0, 9)] * 3),
)
@settings(deadline=None, max_examples=25)
def test_upsampling_keeps_the_sum(
    cells: tuple[int, int, int], extra: tuple[int, int, int]
) -> None:
    maps = _maps(1, 2, *cells).double()
    grid = (cells[0] + extra[0], cells[1] + extra[1], cells[2] + extra[2])
    fine = upsample_risk_maps(maps, grid)
    assert tuple(fine.shape[2:]) == grid
    assert torch.allclose(fine.sum(dim=(2, 3, 4)), maps.sum(dim=(2, 3, 4)))


def test_upsampling_keeps_the_place() -> None:
    maps = torch.zeros(1, 1, 1, 3, 3)
    maps[0, 0, 0, 1, 2] = 1
    fine = upsample_risk_maps(maps, (1, 12, 12))[0, 0, 0]
    height, width = divmod(int(fine.argmax()), 12)
    assert height in range(4, 8)
    assert width in range(8, 12)


def test_upsampling_to_the_same_grid_changes_nothing() -> None:
    maps = _maps(1, 2, 2, 3, 4)
    assert torch.allclose(upsample_risk_maps(maps, (2, 3, 4)), maps)


def test_a_coarser_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4\) is coarser than .* \(2, 3, 4\)"):
        upsample_risk_maps(_maps(1, 2, 2, 3, 4), (1, 3, 4))
