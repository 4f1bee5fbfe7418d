from dataclasses import replace
from itertools import chain, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.cohorts import make_cohort
from references.site_rounds import small_config

from acfnet_core.cohort.dataset import collate
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.objective.time_bins import discretise_times
from acfnet_core.training.batches import make_batch, patient_inputs, shuffled_batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(12, seed=1)


def _batches(num_patients: int, size: int, seed: int, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return list(islice(shuffled_batches(num_patients, size, generator), count))


@settings(deadline=None, max_examples=40)
@given(
    num_patients=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 2**31)
)
def test_every_pass_visits_each_patient_once(
    num_patients: int, size: int, seed: int
) -> None:
    in_a_pass = -(-num_patients // size)
    batches = _batches(num_patients, size, seed, 2 * in_a_pass)
    for one_pass in (batches[:in_a_pass], batches[in_a_pass:]):
        assert sorted(chain(*one_pass)) == list(range(num_patients))
        assert all(len(batch) <= size for batch in one_pass)


def test_one_seed_gives_one_order() -> None:
    assert _batches(20, 4, 3, 10) == _batches(20, 4, 3, 10)


def test_another_seed_gives_another_order() -> None:
    assert _batches(20, 4, 3, 10) != _batches(20, 4, 4, 10)


def test_two_passes_have_other_orders() -> None:
    first, second = _batches(20, 20, 3, 2)
    assert first != second


def test_outcomes_are_told_in_the_networks_bins(cohort: PreparedCohort) -> None:
    config = small_config(num_years=4, bins_per_year=3)
    indices = [5, 0, 7]
    batch = make_batch(cohort, indices, config, CPU)
    patients = [cohort.patients[index] for index in indices]
    time_bin, kind = discretise_times(
        torch.tensor([p.time_months for p in patients]),
        torch.tensor([p.event for p in patients]),
        num_bins=12,
        bin_width_months=4.0,
    )
    assert torch.equal(batch.time_bin, time_bin)
    assert torch.equal(batch.kind, kind)


def test_inputs_are_in_the_order_asked_for(cohort: PreparedCohort) -> None:
    batch = make_batch(cohort, [5, 0], small_config(), CPU)
    for row, index in enumerate([5, 0]):
        expected = torch.from_numpy(cohort.patients[index].clinical)
        assert torch.equal(batch.inputs.clinical[row], expected)


def test_the_network_sees_no_outcome_and_no_identifier(cohort: PreparedCohort) -> None:
    inputs = patient_inputs(collate(cohort, [0, 1]), CPU)
    assert set(vars(inputs)) == {
        "scans",
        "scan_time_months",
        "scan_mask",
        "channel_mask",
        "clinical",
        "clinical_mask",
    }


def test_on_a_cpu_the_channels_of_a_batch_lie_beside_each_other(
    cohort: PreparedCohort,
) -> None:
    batch = replace(
        collate(cohort, [2, 3]),
        scans=torch.zeros(2, 1, 4, 8, 16, 16),
        scan_time_months=torch.zeros(2, 1),
        scan_mask=torch.ones(2, 1, dtype=torch.bool),
        channel_mask=torch.ones(2, 1, 4, dtype=torch.bool),
    )
    assert patient_inputs(batch, CPU).scans.stride(2) == 1
