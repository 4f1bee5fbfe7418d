"""What a site sends does not depend on the patients whom it only predicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort, without_outcome
from references.serial_scans import make_serial_cohort, serial_contract
from references.site_rounds import ask_to_train, small_model

from acfnet_core.cohort.contract import DataContract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import PreparedCohort, PreparedInputs, open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.errors import DataError
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.training.baselines_of_cohorts import outcomes_of
from acfnet_core.training.site_round import SiteAnswer, answer_round

CPU = torch.device("cpu")
NUM_PATIENTS, NUM_PLANTED = 40, 15


def _no_signature(claim: UpdateClaim) -> str:
    return "AAAA"


def answer(cohort: PreparedCohort, **changes: Any) -> SiteAnswer:
    content = {"training": {"local_epochs": 1, "batch_size": 8}, **changes}
    request, base = ask_to_train(small_model(), cohort, **content)
    return answer_round(
        request, base, cohort, site="hospital-a", device=CPU, sign=_no_signature
    )


def told(one: SiteAnswer) -> tuple[dict[str, object], bytes]:
    """Return all that a reply holds, but for how long the work took."""
    parameters = b"" if one.parameters is None else one.parameters.tobytes()
    return one.reply.model_dump(exclude={"seconds"}), parameters


def plant(folder: Path) -> tuple[PreparedInputs, ...]:
    """Return striking patients without an outcome, whose scans cannot be opened."""
    known = make_serial_cohort(folder / "planted", NUM_PLANTED, seed=8).patients
    return tuple(
        replace(without_outcome(patient), clinical=np.full_like(patient.clinical, 99.0))
        for patient in known
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    return make_serial_cohort(tmp_path_factory.mktemp("store"), NUM_PATIENTS)


@pytest.fixture(scope="module")
def planted(
    cohort: PreparedCohort, tmp_path_factory: pytest.TempPathFactory
) -> PreparedCohort:
    others = plant(tmp_path_factory.mktemp("other"))
    return replace(cohort, without_outcome=others)


ROUNDS: dict[str, dict[str, Any]] = {
    "training": {},
    "judging": {"trains": False},
    "landmark": {"landmark_months": 12.0},
    "validation": {
        "training": {
            "local_epochs": 1,
            "batch_size": 8,
            "validation_share": 0.5,
            "patience": 1,
        }
    },
}


@pytest.mark.parametrize("kind", ROUNDS)
def test_a_patient_without_outcome_changes_no_bit_of_the_reply(
    cohort: PreparedCohort, planted: PreparedCohort, kind: str
) -> None:
    assert told(answer(planted, **ROUNDS[kind])) == told(answer(cohort, **ROUNDS[kind]))


def test_the_same_patients_with_an_outcome_would_change_it(
    cohort: PreparedCohort, planted: PreparedCohort
) -> None:
    known = tuple(
        replace(patient, clinical=other.clinical, scans=())
        for patient, other in zip(
            cohort.patients, planted.without_outcome, strict=False
        )
    )
    more = replace(cohort, patients=(*cohort.patients, *known))
    assert told(answer(more)) != told(answer(cohort))


def test_they_do_not_help_a_site_over_the_minimum(planted: PreparedCohort) -> None:
    few = replace(planted, patients=planted.patients[:5])
    with pytest.raises(DataError) as caught:
        answer(few)
    assert caught.value.code == "data.too_few_patients"


def test_a_site_that_only_predicts_is_refused_whatever_the_minimum(
    planted: PreparedCohort,
) -> None:
    contract = planted.contract.model_copy(update={"minimum_cell": 1})
    with pytest.raises(DataError) as caught:
        answer(replace(planted, contract=contract, patients=()))
    assert caught.value.code == "data.too_few_patients"


def test_no_baseline_is_fitted_on_them(
    cohort: PreparedCohort, planted: PreparedCohort
) -> None:
    found, expected = vars(outcomes_of(planted)), vars(outcomes_of(cohort))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def _write_table(path: Path, contract: DataContract, num_unknown: int) -> None:
    """Write the same patients each time, and between them some without an outcome."""
    generator = np.random.default_rng(5)
    names = ["Patient-ID", *contract.features, *_OUTCOME]
    lines = [",".join(names)]
    for index in range(24):
        values = dict.fromkeys(contract.features, "1") | {
            "age": str(generator.integers(30, 80)),
            "body_mass_index": "25.5",
        }
        months, event = generator.integers(3, 80), generator.integers(0, 2)
        lines.append(",".join([f"{index:02}", *values.values(), f"{months},{event}"]))
        if index < num_unknown:
            lines.append(",".join([f"{index:02}b", *values.values(), "-999,1"]))
    path.write_text("\n".join(lines) + "\n")


_OUTCOME = ("months_to_DFS_progression", "vital_status_DFS")


def test_planting_one_in_the_table_changes_no_bit_of_the_reply(tmp_path: Path) -> None:
    contract = serial_contract().without_imaging()
    replies, numbers = [], []
    for num_unknown in (0, 12):
        folder = tmp_path / str(num_unknown)
        folder.mkdir()
        _write_table(folder / "clinical.csv", contract, num_unknown)
        sources = CohortSources(clinical_table=folder / "clinical.csv")
        store = folder / "store"
        list(prepare_cohort(contract, sources, store, pseudonym_key=b"k" * 32))
        cohort = open_store(store, contract=contract)
        numbers.append((len(cohort.patients), len(cohort.without_outcome)))
        replies.append(told(answer(cohort)))
    assert numbers == [(24, 0), (24, 12)]
    assert replies[0] == replies[1]


def test_a_cohort_has_nobody_of_them_unless_told() -> None:
    assert make_cohort(2, seed=1).without_outcome == ()
