import base64
from dataclasses import replace
from math import cos, pi
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from references.cohorts import make_cohort, with_events
from references.site_rounds import ask_to_train, small_config, small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.parameters import (
    flatten,
    layout_of,
    sha256_of,
    unflatten,
)
from acfnet_core.identity.envelope import UpdateClaim, sign_update, verify_update
from acfnet_core.identity.keys import generate_key
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig, total_loss
from acfnet_core.training import site_round
from acfnet_core.training.batches import make_batch
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.early_stopping import CohortParts, divide_cohort
from acfnet_core.training.evaluation import cohort_counts
from acfnet_core.training.local_training import StepFinished, TrainingEvent
from acfnet_core.training.model_arrays import load_arrays, model_arrays
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.site_round import SiteAnswer, answer_round

SITE = "hospital-a"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(30, seed=1)


@pytest.fixture(scope="module")
def site_key() -> ec.EllipticCurvePrivateKey:
    return generate_key()


def _no_signature(claim: UpdateClaim) -> str:
    return base64.b64encode(claim.site.encode()).decode()


def _answer(
    model: AcfNet, cohort: PreparedCohort, /, *, site: str = SITE, **changes: Any
) -> SiteAnswer:
    request, base = ask_to_train(model, cohort, **changes)
    return answer_round(
        request, base, cohort, site=site, device=CPU, sign=_no_signature
    )


def _sent(answer: SiteAnswer) -> np.ndarray:
    assert answer.parameters is not None
    return answer.parameters


def _refused_code(cohort: PreparedCohort, **changes: Any) -> str:
    with pytest.raises(AcfnetError) as caught:
        _answer(small_model(), cohort, **changes)
    return caught.value.code


def _step_by_hand(
    model: AcfNet, cohort: PreparedCohort, *, rate: float = 1e-3
) -> AcfNet:
    """Take the one step of `ask_to_train` with nothing but torch."""
    seed = derive_seed(7, SITE, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    batch = make_batch(cohort, order[:8].tolist(), model.config, CPU)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    torch.manual_seed(seed)
    model.train()
    terms = total_loss(
        model(batch.inputs),
        time_bin=batch.time_bin,
        kind=batch.kind,
        config=LossConfig(),
    )
    torch.autograd.backward(terms.total.mean())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return model


def test_one_local_step_equals_the_step_by_hand_to_the_last_bit(
    cohort: PreparedCohort,
) -> None:
    answered = small_model(seed=9)
    arrays = unflatten(
        _sent(_answer(small_model(), cohort)), layout_of(model_arrays(answered))
    )
    load_arrays(answered, arrays)
    by_hand = _step_by_hand(small_model(), cohort)
    for name, parameter in by_hand.named_parameters():
        assert torch.equal(parameter, answered.get_parameter(name)), name


def test_one_seed_gives_the_same_update_to_the_last_bit(cohort: PreparedCohort) -> None:
    one, other = (_answer(small_model(), cohort) for _ in range(2))
    assert one.reply.parameters_sha256 == other.reply.parameters_sha256


def test_a_round_takes_its_place_in_the_cosine_of_the_run(
    cohort: PreparedCohort,
) -> None:
    training = {"local_steps": 1, "batch_size": 8, "schedule": "cosine"}
    training |= {"warm_up_share": 0.05, "final_share": 0.05}
    sent = _sent(_answer(small_model(), cohort, training=training))
    # Round 1 of 2, the middle of its only step: a quarter of the run is over, and of
    # the cosine that follows the warm-up it is (0.25 - 0.05) / 0.95.
    rate = 5e-5 + (1e-3 - 5e-5) * (1 + cos(pi * (0.25 - 0.05) / (1 - 0.05))) / 2
    by_hand = _step_by_hand(small_model(), cohort, rate=rate)
    np.testing.assert_allclose(sent, flatten(model_arrays(by_hand)), atol=1e-8)


def test_a_validation_part_is_not_counted_among_the_examples() -> None:
    training = {"local_epochs": 1, "validation_share": 0.25}
    many = with_events(make_cohort(60, seed=1), 40)
    reply = _answer(small_model(), many, training=training).reply
    assert reply.num_examples == 45
    assert reply.counts.num_patients == 60


def test_the_validation_part_is_the_same_in_every_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[set[str]] = []

    def note(*args: Any, **kwargs: Any) -> CohortParts:
        parts = divide_cohort(*args, **kwargs)
        assert parts.validation is not None
        kept.append({patient.pseudonym for patient in parts.validation.patients})
        return parts

    monkeypatch.setattr(site_round, "divide_cohort", note)
    training = {"local_steps": 1, "validation_share": 0.25}
    many = make_cohort(60, seed=1)
    for change in ({"round": 1}, {"round": 2}, {"site": "hospital-b"}, {"seed": 8}):
        _answer(small_model(), many, training=training, **change)
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]
    assert kept[0] != kept[3]


def test_a_validation_part_below_the_minimum_cell_is_refused(
    cohort: PreparedCohort,
) -> None:
    training = {"local_steps": 1, "validation_share": 0.2}
    assert _refused_code(cohort, training=training) == "data.validation_too_small"


def test_what_happens_while_training_is_told_on_the_spot(
    cohort: PreparedCohort,
) -> None:
    request, base = ask_to_train(small_model(), cohort, training={"local_steps": 2})
    told: list[TrainingEvent] = []
    answer_round(
        request,
        base,
        cohort,
        site=SITE,
        device=CPU,
        sign=_no_signature,
        watch=told.append,
    )
    assert [type(event) for event in told] == [StepFinished, StepFinished]


def test_the_way_of_computing_does_not_change_the_metrics(
    cohort: PreparedCohort,
) -> None:
    request, base = ask_to_train(small_model(), cohort)
    replies = [
        answer_round(
            request,
            base,
            cohort,
            site=SITE,
            device=CPU,
            sign=_no_signature,
            compute=ComputeOptions(checkpointing=again, physical_batch_size=16),
        ).reply
        for again in (False, True)
    ]
    assert replies[0].metrics == replies[1].metrics


@pytest.mark.parametrize("change", [{"seed": 8}, {"round": 2}, {"site": "hospital-b"}])
def test_another_seed_round_or_site_gives_another_update(
    cohort: PreparedCohort, change: dict[str, Any]
) -> None:
    one, other = (
        _answer(small_model(), cohort),
        _answer(small_model(), cohort, **change),
    )
    assert one.reply.parameters_sha256 != other.reply.parameters_sha256


def test_the_state_of_the_global_generator_does_not_matter(
    cohort: PreparedCohort,
) -> None:
    one = _answer(small_model(), cohort)
    torch.rand(3)
    other = _answer(small_model(), cohort)
    assert one.reply.parameters_sha256 == other.reply.parameters_sha256


def test_the_reply_is_about_the_parameters_beside_it(cohort: PreparedCohort) -> None:
    answer = _answer(small_model(), cohort)
    assert answer.reply.parameters_sha256 == sha256_of(_sent(answer))


def test_the_reply_answers_this_request(cohort: PreparedCohort) -> None:
    request, base = ask_to_train(small_model(), cohort, round=2)
    reply = _answer(small_model(), cohort, round=2).reply
    assert (reply.site, reply.run, reply.round) == (SITE, request.run, 2)
    assert reply.base_sha256 == sha256_of(base)
    assert reply.num_examples == len(cohort.patients)


def test_local_steps_are_counted(cohort: PreparedCohort) -> None:
    training = {"local_steps": 3, "batch_size": 4}
    assert _answer(small_model(), cohort, training=training).reply.num_steps == 3


def test_the_metrics_are_those_of_the_global_model(cohort: PreparedCohort) -> None:
    trained = _answer(small_model(), cohort, training={"local_steps": 3})
    judged = _answer(small_model(), cohort, trains=False)
    assert trained.reply.metrics == judged.reply.metrics


def test_a_request_to_judge_gives_no_parameters(cohort: PreparedCohort) -> None:
    answer = _answer(small_model(), cohort, trains=False)
    assert answer.parameters is None
    assert answer.reply.parameters_sha256 is None
    assert answer.reply.num_steps == 0


@pytest.mark.parametrize("trains", [True, False])
def test_the_received_parameters_are_left_as_they_were(
    cohort: PreparedCohort, trains: bool
) -> None:
    request, base = ask_to_train(small_model(), cohort, trains=trains)
    answer_round(request, base, cohort, site=SITE, device=CPU, sign=_no_signature)
    assert sha256_of(base) == request.base_sha256


@pytest.mark.parametrize("trains", [True, False])
def test_the_signature_verifies_with_the_sites_key_alone(
    cohort: PreparedCohort, site_key: ec.EllipticCurvePrivateKey, trains: bool
) -> None:
    request, base = ask_to_train(small_model(), cohort, trains=trains)
    reply = answer_round(
        request,
        base,
        cohort,
        site=SITE,
        device=CPU,
        sign=lambda c: base64.b64encode(sign_update(site_key, c)).decode(),
    ).reply
    claim = UpdateClaim(
        run=request.run,
        site=SITE,
        round=request.round,
        base_sha256=request.base_sha256,
        parameters_sha256=reply.parameters_sha256 or request.base_sha256,
        num_examples=30,
        reading_sha256=reply.reading_sha256,
    )
    signature = base64.b64decode(reply.signature)
    verify_update(site_key.public_key(), claim, signature)
    with pytest.raises(ProtocolError) as caught:
        verify_update(generate_key().public_key(), claim, signature)
    assert caught.value.code == "protocol.signature_invalid"


def test_other_parameters_than_the_announced_ones_are_refused(
    cohort: PreparedCohort,
) -> None:
    assert _refused_code(cohort, base_sha256="0" * 64) == "protocol.malformed"


def test_another_contract_is_refused(cohort: PreparedCohort) -> None:
    code = _refused_code(cohort, contract_sha256="0" * 64)
    assert code == "data.contract_mismatch"


@pytest.mark.parametrize("trains", [True, False])
def test_a_site_below_the_minimum_cell_does_not_answer(trains: bool) -> None:
    code = _refused_code(make_cohort(9, seed=1), trains=trains)
    assert code == "data.too_few_patients"


@pytest.mark.parametrize(("num_patients", "is_refused"), [(14, True), (15, False)])
def test_a_site_below_the_contracts_minimum_of_patients_does_not_answer(
    num_patients: int, is_refused: bool
) -> None:
    plain = make_cohort(0, seed=1).contract
    contract = plain.model_copy(update={"minimum_patients": 15})
    cohort = make_cohort(num_patients, seed=1, contract=contract)
    if is_refused:
        assert _refused_code(cohort) == "data.too_few_patients"
    else:
        assert _answer(small_model(), cohort).reply.num_examples == 15


def test_a_refusal_does_not_tell_how_many_patients_there_are() -> None:
    contract = make_cohort(0, seed=1).contract.model_copy(update={"minimum_cell": 90})
    with pytest.raises(AcfnetError) as caught:
        _answer(small_model(), make_cohort(77, seed=1, contract=contract))
    assert "77" not in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"layout_sha256": "0" * 64},
        {"model": {"num_clinical_features": 13}},
        {"model": {"num_clinical_features": 13, "colour": "red"}},
        {"training": {"local_steps": 1, "momentum": 0.9}},
        {"training": {}},
        {"loss": {"ranking": 1.0}},
    ],
)
def test_a_model_or_settings_of_another_version_are_refused(
    cohort: PreparedCohort, change: dict[str, Any]
) -> None:
    assert _refused_code(cohort, **change) == "protocol.version_mismatch"


def test_parameters_of_another_length_are_refused(cohort: PreparedCohort) -> None:
    request, base = ask_to_train(small_model(), cohort)
    short = base[:-1].copy()
    request = request.model_copy(update={"base_sha256": sha256_of(short)})
    with pytest.raises(ProtocolError) as caught:
        answer_round(request, short, cohort, site=SITE, device=CPU, sign=_no_signature)
    assert caught.value.code == "protocol.version_mismatch"


def test_a_model_that_diverges_is_answered_without_a_loss(
    cohort: PreparedCohort,
) -> None:
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)
    reply = _answer(model, cohort).reply
    assert reply.metrics.loss is None


@pytest.mark.parametrize(
    ("num_events", "told"), [(9, None), (10, 10), (20, 20), (21, None)]
)
def test_the_events_are_told_when_neither_side_is_below_the_cell(
    num_events: int, told: int | None
) -> None:
    counts = cohort_counts(
        with_events(make_cohort(30, seed=1), num_events), small_config()
    )
    assert (counts.num_patients, counts.num_events) == (30, told)


def test_counts_below_the_cell_are_withheld() -> None:
    counts = cohort_counts(make_cohort(9, seed=1), small_config())
    assert set(counts.model_dump().values()) == {None}


def test_a_cohort_without_scans_says_so(cohort: PreparedCohort) -> None:
    counts = cohort_counts(cohort, small_config())
    assert (counts.num_with_scans, counts.num_scans) == (0, 0)


def _follow(cohort: PreparedCohort, times: list[float]) -> PreparedCohort:
    patients = zip(cohort.patients, times, strict=True)
    return replace(
        cohort, patients=tuple(replace(p, time_months=t) for p, t in patients)
    )


@pytest.mark.parametrize(("num_longest", "told"), [(9, 12.0), (10, 18.0)])
def test_the_follow_up_told_is_that_of_the_minimum_cell(
    num_longest: int, told: float
) -> None:
    times = [12.0] * (20 - num_longest) + [12.1] * num_longest
    counts = cohort_counts(_follow(make_cohort(20, seed=1), times), small_config())
    assert counts.followed_months == told


def test_the_follow_up_told_ends_with_the_models_last_bin() -> None:
    cohort = _follow(make_cohort(10, seed=1), [500.0] * 10)
    assert cohort_counts(cohort, small_config()).followed_months == 96.0


def test_parameters_go_into_a_model_and_come_out_again() -> None:
    source, target = small_model(seed=1), small_model(seed=2)
    load_arrays(target, model_arrays(source))
    assert sha256_of(flatten(model_arrays(target))) == sha256_of(
        flatten(model_arrays(source))
    )


def test_arrays_taken_from_a_model_do_not_follow_it() -> None:
    model = small_model()
    arrays = model_arrays(model)
    before = sha256_of(flatten(arrays))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert sha256_of(flatten(arrays)) == before


def test_an_absent_array_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        load_arrays(small_model(), {})
