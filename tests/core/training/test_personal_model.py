import base64
from pathlib import Path
from typing import Any

import pytest
import torch
from references.cohorts import make_cohort, with_events
from references.site_rounds import ask_to_train, small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import LocalStrategy
from acfnet_core.federation.parameters import flatten
from acfnet_core.federation.release import load_release
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training import site_round
from acfnet_core.training.early_stopping import divide_cohort
from acfnet_core.training.evaluation import predict_cohort
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.personal_model import PERSONAL_FOLDER
from acfnet_core.training.release import load_model
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.settings import (
    LocalTrainingSettings,
    PersonalisationSettings,
)
from acfnet_core.training.site_round import SiteAnswer, answer_round

SITE = "hospital-a"
CPU = torch.device("cpu")
TRAINING = {"local_steps": 1, "validation_share": 0.4, "schedule": "cosine"}
FURTHER = {"local_steps": 4, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return with_events(make_cohort(60, seed=1), 30)


def _no_signature(claim: UpdateClaim) -> str:
    return base64.b64encode(claim.site.encode()).decode()


def _answer(
    cohort: PreparedCohort, runs_folder: Path | None, **changes: Any
) -> SiteAnswer:
    content = {
        "trains": False,
        "round": 3,
        "training": TRAINING,
        "personalise": FURTHER,
        **changes,
    }
    request, base = ask_to_train(small_model(), cohort, **content)
    return answer_round(
        request,
        base,
        cohort,
        site=SITE,
        device=CPU,
        sign=_no_signature,
        runs_folder=runs_folder,
    )


def _own_release(runs_folder: Path) -> Path:
    return runs_folder / "run-1" / PERSONAL_FOLDER


def _validation(cohort: PreparedCohort) -> PreparedCohort:
    seed = derive_seed(7, SITE, "validation")
    parts = divide_cohort(cohort, validation_share=0.4, seed=seed)
    assert parts.validation is not None
    return parts.validation


def test_both_models_are_judged_on_the_validation_part(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    personal = _answer(cohort, tmp_path).reply.personal
    assert personal is not None
    validation = _validation(cohort)
    assert personal.num_patients == len(validation.patients)
    pairs = (
        (small_model(), personal.global_model),
        (load_model(_own_release(tmp_path)), personal.own_model),
    )
    for model, figures in pairs:
        prediction = predict_cohort(model, validation, loss=LossConfig())
        assert figures.loss == pytest.approx(float(prediction.loss.mean()), rel=1e-6)
        assert figures.harrell_c is not None
    assert personal.own_model != personal.global_model


def test_the_own_model_is_trained_on_the_other_patients_alone(
    cohort: PreparedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []

    def note(model: Any, patients: PreparedCohort, **options: Any) -> Any:
        trained.append({patient.pseudonym for patient in patients.patients})
        assert options["validation"] is None
        return train_locally(model, patients, **options)

    monkeypatch.setattr(site_round, "train_locally", note)
    _answer(cohort, tmp_path)
    judges = {patient.pseudonym for patient in _validation(cohort).patients}
    assert len(trained) == 1
    assert not trained[0] & judges
    assert len(trained[0] | judges) == 60


def test_the_own_model_is_a_release_that_stays_at_the_site(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    answer = _answer(cohort, tmp_path)
    assert answer.parameters is None
    assert answer.reply.parameters_sha256 is None
    arrays, description = load_release(_own_release(tmp_path))
    assert description.run == "run-1"
    assert description.contract_sha256 == cohort.contract.sha256()
    assert description.supported_months == answer.reply.counts.followed_months
    initial = flatten(model_arrays(small_model()))
    assert flatten(arrays).tobytes() != initial.tobytes()


def test_a_repeated_request_gives_the_same_model(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    files = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        _answer(cohort, folder)
        files.append((_own_release(folder) / "parameters.safetensors").read_bytes())
    assert files[0] == files[1]


def test_without_a_validation_part_nothing_is_compared(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    answer = _answer(cohort, tmp_path, training={"local_steps": 1})
    assert answer.reply.personal is None
    assert load_release(_own_release(tmp_path))


def test_nothing_of_the_kind_happens_unless_it_is_asked_for(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    assert _answer(cohort, tmp_path, personalise=None).reply.personal is None
    assert list(tmp_path.iterdir()) == []


def test_a_round_that_trains_personalises_nothing(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    answer = _answer(cohort, tmp_path, trains=True, round=1)
    assert answer.reply.personal is None
    assert list(tmp_path.iterdir()) == []


def test_settings_of_another_version_are_refused(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    with pytest.raises(ProtocolError) as caught:
        _answer(cohort, tmp_path, personalise={"local_steps": 1, "colour": 2})
    assert caught.value.code == "protocol.version_mismatch"


def test_an_own_model_needs_a_folder(cohort: PreparedCohort) -> None:
    with pytest.raises(ValueError, match="own model needs a folder"):
        _answer(cohort, None)


def test_a_site_that_trains_alone_keeps_its_model_and_compares_it(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    alone = LocalStrategy(name="local_only")
    first = _answer(
        cohort, tmp_path, trains=True, round=1, personalise=None, local_strategy=alone
    )
    assert first.reply.personal is None
    last = _answer(
        cohort,
        tmp_path,
        personalise=None,
        local_strategy=alone.model_copy(update={"last_rounds": {SITE: 1}}),
    )
    personal = last.reply.personal
    assert personal is not None
    own = predict_cohort(
        load_model(_own_release(tmp_path)), _validation(cohort), loss=LossConfig()
    )
    assert personal.own_model.loss == pytest.approx(float(own.loss.mean()), rel=1e-6)
    assert personal.own_model != personal.global_model


def test_a_comparison_of_few_patients_with_an_event_tells_no_concordance(
    tmp_path: Path,
) -> None:
    few = with_events(make_cohort(60, seed=1), 15)
    personal = _answer(few, tmp_path).reply.personal
    assert personal is not None
    assert personal.own_model.harrell_c is None
    assert personal.own_model.loss is not None


def test_the_further_work_takes_the_rest_from_the_rounds() -> None:
    training = LocalTrainingSettings(
        local_epochs=2,
        batch_size=5,
        schedule="cosine",
        warm_up_share=0.1,
        validation_share=0.3,
    )
    work = PersonalisationSettings(local_steps=7).work_after(training)
    assert (work.local_epochs, work.local_steps, work.batch_size) == (None, 7, 5)
    assert (work.schedule, work.warm_up_share) == ("constant", 0.0)
    assert (work.validation_share, work.learning_rate) == (0.0, 1e-4)


@pytest.mark.parametrize("work", [{}, {"local_steps": 1, "local_epochs": 1}])
def test_one_measure_of_further_work_is_needed(work: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="either local_epochs or local_steps"):
        PersonalisationSettings.model_validate(work)


def test_the_models_of_a_site_are_not_told_by_a_hash_of_them(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    document = _answer(cohort, tmp_path).reply.model_dump_json()
    release = (_own_release(tmp_path) / "model.json").read_text()
    sha256 = release.split('"parameters_sha256": "')[1][:64]
    assert sha256 not in document
