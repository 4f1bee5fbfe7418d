"""Dividing a cohort among pseudo-sites."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acfnet_core.cohort.site_splits import SplitKind, split_among_sites

KINDS: tuple[SplitKind, ...] = ("iid", "label", "size")


def draw_outcomes(num_patients: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.exponential(30.0, num_patients), rng.random(num_patients) < 0.6


def split(
    num_patients: int,
    kind: SplitKind,
    *,
    num_sites: int = 4,
    minimum: int = 10,
    seed: int = 0,
    concentration: float = 0.5,
) -> np.ndarray:
    return split_among_sites(
        *draw_outcomes(num_patients, seed=5),
        kind=kind,
        num_sites=num_sites,
        minimum=minimum,
        seed=seed,
        concentration=concentration,
    )


@settings(deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(KINDS),
    num_sites=st.integers(1, 9),
    minimum=st.integers(1, 12),
    spare=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
    concentration=st.floats(1e-6, 1e6),
)
def test_every_patient_has_one_site_and_every_site_its_minimum(
    kind: SplitKind,
    num_sites: int,
    minimum: int,
    spare: int,
    seed: int,
    concentration: float,
) -> None:
    num_patients = num_sites * minimum + spare
    site_of = split(
        num_patients,
        kind,
        num_sites=num_sites,
        minimum=minimum,
        seed=seed,
        concentration=concentration,
    )
    sizes = np.bincount(site_of, minlength=num_sites)
    assert site_of.shape == (num_patients,)
    assert sizes.size == num_sites
    assert sizes.min() >= minimum


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_divides_alike(kind: SplitKind) -> None:
    first, again = (split(120, kind, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_divides_otherwise(kind: SplitKind) -> None:
    assert (split(120, kind, seed=7) != split(120, kind, seed=8)).any()


@pytest.mark.parametrize("kind", ["iid", "label"])
def test_sites_are_of_equal_size_unless_size_is_the_skew(kind: SplitKind) -> None:
    sizes = np.bincount(split(122, kind))
    assert sizes.max() - sizes.min() <= 1


def spread_of_sizes(concentration: float) -> float:
    spreads = [
        np.bincount(
            split(400, "size", seed=seed, concentration=concentration), minlength=4
        ).std()
        for seed in range(20)
    ]
    return float(np.mean(spreads))


def test_sizes_differ_the_more_the_smaller_the_concentration() -> None:
    assert spread_of_sizes(0.2) > 2 * spread_of_sizes(5.0)


def spread_of_events(kind: SplitKind, concentration: float) -> float:
    _, event = draw_outcomes(400, seed=5)
    spreads = []
    for seed in range(20):
        site_of = split(400, kind, seed=seed, concentration=concentration)
        spreads.append(np.std([event[site_of == site].mean() for site in range(4)]))
    return float(np.mean(spreads))


def test_sites_differ_in_their_events_the_more_the_smaller_the_concentration() -> None:
    assert spread_of_events("label", 0.5) > 2 * spread_of_events("label", 100.0)


def test_a_large_concentration_is_as_good_as_no_skew() -> None:
    assert spread_of_events("label", 1e6) < 1.5 * spread_of_events("iid", 1.0)


def test_too_few_patients_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="39 patients are too few for 4 sites of 10"):
        split(39, "iid")


@pytest.mark.parametrize("concentration", [0.0, -1.0, float("inf"), float("nan")])
def test_a_concentration_that_is_none_is_refused(concentration: float) -> None:
    with pytest.raises(ValueError, match="concentration"):
        split(100, "label", concentration=concentration)


@pytest.mark.parametrize("changes", [{"num_sites": 0}, {"minimum": 0}])
def test_no_site_and_no_minimum_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split(100, "iid", **changes)
