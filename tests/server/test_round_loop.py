import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort
from references.federated_run import (
    SITES,
    TRAINING,
    FederatedRun,
    InProcessSites,
    make_run,
    make_sites,
)

from acf_server.answers import RawAnswer
from acf_server.round_records import best_round
from acf_server.run_files import RoundRecord, SiteRecord, read_rounds, read_sites
from acf_server.run_plan import SelectBy
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.checkpoint import completed_rounds, load_checkpoint
from acfnet_core.federation.parameters import FlatParameters, flatten
from acfnet_core.federation.release import RELEASE_FOLDER, load_members, load_release
from acfnet_core.identity.envelope import UpdateClaim, sign_update
from acfnet_core.identity.keys import generate_key
from acfnet_core.model.config import AcfNetConfig
from acfnet_core.model.network import build_model
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.local_training import train_locally
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.release import load_model
from acfnet_core.training.reproducibility import derive_seed

BAD = "hospital-b"
Tamper = Callable[[RawAnswer], RawAnswer]


@pytest.fixture(scope="module")
def sites() -> InProcessSites:
    return make_sites()


@pytest.fixture(scope="module")
def finished(sites: InProcessSites, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three rounds over three sites."""
    return play(tmp_path_factory.mktemp("run"), sites, rounds=3).folder


def play(folder: Path, sites: InProcessSites, *, rounds: int = 1) -> FederatedRun:
    return make_run(folder, sites, rounds=rounds).play()


def parameters_after(folder: Path, round_number: int) -> bytes:
    return flatten(load_checkpoint(folder, round_number)[0]).tobytes()


def record_of(folder: Path, site: str) -> SiteRecord:
    return next(record for record in read_sites(folder) if record.name == site)


def rewrite(raw: RawAnswer, **changes: object) -> RawAnswer:
    """Change fields of a reply as somebody on the way could."""
    document = json.loads(raw.reply or "{}") | changes
    return replace(raw, reply=json.dumps(document))


def resign(raw: RawAnswer, sites: InProcessSites, **changes: object) -> RawAnswer:
    """Change fields of a reply as the site itself could: with its signature."""
    document = json.loads(raw.reply or "{}") | changes
    claimed = {name: document[name] for name in UpdateClaim.model_fields}
    claimed["parameters_sha256"] = claimed["parameters_sha256"] or "0" * 64
    claim = UpdateClaim.model_validate(claimed)
    signature = sign_update(sites.keys[raw.site], claim)
    return rewrite(raw, **changes, signature=base64.b64encode(signature).decode())


def test_a_run_keeps_the_model_after_every_round(finished: Path) -> None:
    assert completed_rounds(finished) == [0, 1, 2, 3]


def test_every_round_moves_the_model(finished: Path) -> None:
    models = {parameters_after(finished, number) for number in range(4)}
    assert len(models) == 4


def test_the_records_judge_the_initial_model_and_that_of_each_round(
    finished: Path,
) -> None:
    records = read_rounds(finished)
    assert [record.round for record in records] == [0, 1, 2, 3]
    assert all(record.mean_loss is not None for record in records)
    assert all((r.update_norm is None) == (r.round == 0) for r in records)


def test_a_round_costs_the_parameters_once_in_each_direction(finished: Path) -> None:
    size = len(parameters_after(finished, 0))
    record = read_rounds(finished)[1]
    assert (record.bytes_sent, record.bytes_received) == (3 * size, 3 * size)


def test_a_checkpoint_names_its_contributors(finished: Path) -> None:
    manifest = load_checkpoint(finished, 3)[1]
    expected = dict(zip(SITES, (12, 13, 14), strict=True))
    assert manifest.contributors == expected


def test_every_site_is_recorded_with_its_answers(finished: Path) -> None:
    records = read_sites(finished)
    assert [record.name for record in records] == list(SITES)
    assert all(record.rounds_answered == 4 for record in records)
    assert not any(record.rounds_failed for record in records)


def test_the_events_tell_of_every_round_in_order(
    sites: InProcessSites, tmp_path: Path
) -> None:
    kinds = [event.kind for event in play(tmp_path, sites).events]
    judging = ["round_started", *["site_answered"] * 3, "model_judged"]
    assert kinds == [*judging, "round_finished", *judging]


def test_the_seconds_of_a_round_are_told_by_phase(finished: Path) -> None:
    records = read_rounds(finished)
    assert records[0].phases is None
    for record in records[1:]:
        assert record.phases is not None
        assert min(record.phases.model_dump().values()) > 0
        assert record.seconds == record.phases.total
    answers = [row for record in records[1:] for row in record.sites]
    assert all(row.computing_seconds for row in answers)


def test_the_released_model_is_that_of_the_last_round(finished: Path) -> None:
    model = load_model(finished / RELEASE_FOLDER)
    assert flatten(model_arrays(model)).tobytes() == parameters_after(finished, 3)


def test_the_models_of_the_rounds_before_are_released_beside_it(finished: Path) -> None:
    folder = finished / RELEASE_FOLDER
    assert [m.round for m in load_release(folder)[1].members] == [1, 2]
    members = [flatten(arrays).tobytes() for arrays in load_members(folder)]
    assert members == [parameters_after(finished, number) for number in (1, 2)]


def test_the_same_seed_gives_the_same_bits(
    sites: InProcessSites, finished: Path, tmp_path: Path
) -> None:
    play(tmp_path, sites, rounds=3)
    assert parameters_after(tmp_path, 3) == parameters_after(finished, 3)


def test_another_seed_gives_another_model(
    sites: InProcessSites, finished: Path, tmp_path: Path
) -> None:
    make_run(tmp_path, sites, rounds=1, seed=8).play()
    assert parameters_after(tmp_path, 1) != parameters_after(finished, 1)


def test_the_order_of_the_answers_does_not_matter(
    sites: InProcessSites, finished: Path, tmp_path: Path
) -> None:
    play(tmp_path, replace(sites, order=SITES[::-1]), rounds=3)
    assert parameters_after(tmp_path, 3) == parameters_after(finished, 3)


def test_one_federated_site_is_local_training_bit_for_bit(tmp_path: Path) -> None:
    alone = make_sites(SITES[:1])
    run = make_run(tmp_path, alone, minimum_sites=1).play()
    model = build_model(AcfNetConfig.model_validate(run.plan.model), seed=run.plan.seed)
    seed = derive_seed(run.plan.seed, SITES[0], 1)
    torch.manual_seed(seed)
    for _ in train_locally(
        model,
        alone.cohorts[SITES[0]],
        settings=TRAINING,
        loss=LossConfig(),
        seed=seed,
    ):
        pass
    assert parameters_after(tmp_path, 1) == flatten(model_arrays(model)).tobytes()


def to_values(change: Callable[[FlatParameters], FlatParameters]) -> Tamper:
    """Return what changes the parameters beside a reply, where there are any."""

    def tamper(raw: RawAnswer) -> RawAnswer:
        if raw.parameters is None:
            return raw
        return replace(raw, parameters=change(raw.parameters))

    return tamper


def spoil(values: FlatParameters) -> FlatParameters:
    return np.where(np.arange(values.size) == 3, np.float32(np.nan), values)


NOT_A_NUMBER = to_values(spoil)
REFUSED: dict[str, Tamper] = {
    "a value that is no number": NOT_A_NUMBER,
    "one value too few": to_values(lambda values: values[:-1]),
    "a matrix": to_values(lambda values: values[None, :]),
    "values without their hash": to_values(lambda values: values + np.float32(1)),
    "no parameters": lambda raw: replace(raw, parameters=None),
    "the hash of another base": lambda raw: rewrite(raw, base_sha256="0" * 64),
    "another run": lambda raw: rewrite(raw, run="other"),
    "another round": lambda raw: rewrite(raw, round=7),
    "another site's name": lambda raw: rewrite(raw, site="hospital-a"),
    "a cut signature": lambda raw: rewrite(raw, signature="A"),
}
MALFORMED: dict[str, Tamper] = {
    "a count beyond any claim": lambda raw: rewrite(raw, num_examples=10**30),
    "a signature that is no base64": lambda raw: rewrite(raw, signature="?"),
    "a signature that is no ASCII": lambda raw: rewrite(raw, signature="\xe4" * 4),
    "no JSON": lambda raw: replace(raw, reply="garbage"),
    "an unknown key": lambda raw: rewrite(raw, patient="4711"),
    "seconds that are no number": lambda raw: rewrite(raw, seconds=float("nan")),
    "a huge document": lambda raw: replace(raw, reply=" " * (1 << 21)),
    "neither reply nor failure": lambda raw: replace(raw, reply=None),
    "a failure that is no JSON": lambda raw: replace(raw, reply=None, failure="x"),
    "a failure without a code": lambda raw: replace(raw, reply=None, failure="{}"),
    "an unknown code": lambda raw: replace(
        raw, reply=None, failure='{"format_version": 1, "code": "patient 4711"}'
    ),
}
FAILED: dict[str, Tamper] = {
    "data.no_events": lambda raw: replace(
        raw, reply=None, failure='{"code": "data.no_events"}'
    ),
    "protocol.site_timeout": lambda raw: replace(
        raw, reply=None, code="protocol.site_timeout"
    ),
    "protocol.signature_invalid": lambda raw: rewrite(
        raw, signature=base64.b64encode(b"forged").decode()
    ),
}
CASES = [
    *(("protocol.update_refused", name, tamper) for name, tamper in REFUSED.items()),
    *(("protocol.malformed", name, tamper) for name, tamper in MALFORMED.items()),
    *((code, code, tamper) for code, tamper in FAILED.items()),
]


@pytest.mark.parametrize(
    ("code", "tamper"),
    [pytest.param(code, tamper, id=name) for code, name, tamper in CASES],
)
def test_a_bad_answer_is_recorded_and_the_others_go_on(
    sites: InProcessSites, tmp_path: Path, code: str, tamper: Tamper
) -> None:
    run = play(tmp_path, replace(sites, tamper={BAD: tamper}))
    assert set(load_checkpoint(tmp_path, 1)[1].contributors) == set(SITES) - {BAD}
    failures = record_of(tmp_path, BAD).rounds_failed
    assert failures[code] >= 1
    events = [event for event in run.events if event.kind == "site_failed"]
    assert {(event.site, event.round) for event in events} >= {(BAD, 1)}
    assert events[0].code == code


def test_a_bad_answer_leaves_the_model_of_the_others(
    sites: InProcessSites, tmp_path: Path
) -> None:
    others = tuple(site for site in SITES if site != BAD)
    play(tmp_path / "with", replace(sites, tamper={BAD: NOT_A_NUMBER}))
    play(tmp_path / "without", replace(sites, order=others))
    with_bad = parameters_after(tmp_path / "with", 1)
    assert with_bad == parameters_after(tmp_path / "without", 1)


def test_a_reply_signed_with_another_key_is_refused(
    sites: InProcessSites, tmp_path: Path
) -> None:
    run = make_run(tmp_path, sites)
    run.sites.keys = {**sites.keys, BAD: generate_key()}
    run.play()
    failures = record_of(tmp_path, BAD).rounds_failed
    assert failures == {"protocol.signature_invalid": 2}


def test_another_sites_reply_is_refused(sites: InProcessSites, tmp_path: Path) -> None:
    seen: list[RawAnswer] = []

    def keep(raw: RawAnswer) -> RawAnswer:
        seen.append(raw)
        return raw

    def steal(raw: RawAnswer) -> RawAnswer:
        return replace(raw, reply=seen[-1].reply, parameters=seen[-1].parameters)

    play(tmp_path, replace(sites, tamper={"hospital-a": keep, BAD: steal}))
    assert record_of(tmp_path, BAD).rounds_failed == {"protocol.update_refused": 2}


def test_a_reply_of_the_round_before_is_refused(
    sites: InProcessSites, tmp_path: Path
) -> None:
    seen: list[RawAnswer] = []

    def replay(raw: RawAnswer) -> RawAnswer:
        seen.append(raw)
        return seen[0]

    play(tmp_path, replace(sites, tamper={BAD: replay}), rounds=2)
    record = record_of(tmp_path, BAD)
    assert record.rounds_answered == 1
    assert record.rounds_failed == {"protocol.update_refused": 2}


@pytest.mark.parametrize("num_examples", [101, 10_000_000])
def test_a_signed_count_above_the_runs_limit_is_refused(
    sites: InProcessSites, tmp_path: Path, num_examples: int
) -> None:
    tamper = {BAD: lambda raw: resign(raw, sites, num_examples=num_examples)}
    play(tmp_path, replace(sites, tamper=tamper))
    failures = record_of(tmp_path, BAD).rounds_failed
    assert failures["protocol.update_refused"] == 1


def test_a_changed_count_breaks_the_signature(
    sites: InProcessSites, tmp_path: Path
) -> None:
    tamper = {BAD: lambda raw: rewrite(raw, num_examples=50)}
    play(tmp_path, replace(sites, tamper=tamper))
    failures = record_of(tmp_path, BAD).rounds_failed
    assert failures == {"protocol.signature_invalid": 2}


def test_too_few_updates_end_the_run_and_keep_the_last_model(
    sites: InProcessSites, tmp_path: Path
) -> None:
    def fail_later(raw: RawAnswer) -> RawAnswer:
        is_second = json.loads(raw.reply or "{}")["round"] == 2
        return NOT_A_NUMBER(raw) if is_second else raw

    tamper: dict[str, Tamper] = dict.fromkeys(SITES[:2], fail_later)
    run = make_run(tmp_path, replace(sites, tamper=tamper), rounds=3)
    with pytest.raises(ProtocolError, match=r"Round 2: 1 sites .* needs 2") as caught:
        run.play()
    assert caught.value.code == "protocol.too_few_sites"
    assert completed_rounds(tmp_path) == [0, 1]
    assert not (tmp_path / RELEASE_FOLDER).exists()


def test_sites_that_leave_before_the_last_judgement_cost_no_model(
    sites: InProcessSites, tmp_path: Path
) -> None:
    def leave(raw: RawAnswer) -> RawAnswer:
        if raw.parameters is None:
            raise ProtocolError("protocol.too_few_sites", "Few.", remedy="Ask.")
        return raw

    play(tmp_path, replace(sites, tamper={BAD: leave}))
    model = load_model(tmp_path / RELEASE_FOLDER)
    assert flatten(model_arrays(model)).tobytes() == parameters_after(tmp_path, 1)
    assert [record.round for record in read_rounds(tmp_path)] == [0, 1]
    assert read_rounds(tmp_path)[1].mean_loss is None


def test_a_refusal_says_why_in_the_servers_log(
    sites: InProcessSites, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play(tmp_path, replace(sites, tamper={BAD: NOT_A_NUMBER}))
    assert "hospital-b: the update was refused: there are values that" in caplog.text


def test_no_key_of_a_patient_is_in_the_records(
    sites: InProcessSites, finished: Path
) -> None:
    written = b"".join(p.read_bytes() for p in finished.rglob("*") if p.is_file())
    keys = [p.pseudonym for cohort in sites.cohorts.values() for p in cohort.patients]
    assert len(keys) == 39
    assert not any(f'"{key}"'.encode() in written for key in keys)


def follow(months: float | None) -> Tamper:
    """Have a site say how long it followed enough of its patients."""

    def change(raw: RawAnswer) -> RawAnswer:
        counts = json.loads(raw.reply or "{}")["counts"]
        return rewrite(raw, counts={**counts, "followed_months": months})

    return change


@pytest.mark.parametrize(
    ("told", "supported"),
    [
        ((18.0, 30.0, 24.0), 30.0),
        ((None, 30.0, None), 30.0),
        ((None, None, None), None),
        ((18.0, 999.0, 24.0), 96.0),
    ],
)
def test_the_model_is_supported_as_far_as_the_longest_follow_up_of_a_site(
    sites: InProcessSites,
    tmp_path: Path,
    told: tuple[float | None, ...],
    supported: float | None,
) -> None:
    tamper = {name: follow(one) for name, one in zip(SITES, told, strict=True)}
    play(tmp_path, replace(sites, tamper=tamper))
    description = load_release(tmp_path / RELEASE_FOLDER)[1]
    assert description.supported_months == supported
    assert [r.followed_months for r in read_sites(tmp_path)] == list(told)


@pytest.mark.parametrize("months", [0.0, -6.0, "long"])
def test_a_senseless_follow_up_is_refused(
    sites: InProcessSites, tmp_path: Path, months: Any
) -> None:
    play(tmp_path, replace(sites, tamper={BAD: follow(months)}))
    assert record_of(tmp_path, BAD).rounds_failed == {"protocol.malformed": 2}


def test_a_run_of_few_rounds_releases_fewer_models(
    sites: InProcessSites, tmp_path: Path
) -> None:
    play(tmp_path, sites, rounds=1)
    assert load_release(tmp_path / RELEASE_FOLDER)[1].members == ()


def test_as_many_models_are_released_as_the_run_asks_for(
    sites: InProcessSites, tmp_path: Path
) -> None:
    run = make_run(tmp_path, sites, rounds=3)
    strategy = run.plan.strategy.model_copy(update={"release_members": 1})
    replace(run, plan=run.plan.model_copy(update={"strategy": strategy})).play()
    members = load_release(tmp_path / RELEASE_FOLDER)[1].members
    assert [member.round for member in members] == [2]


def test_a_landmark_goes_to_the_sites_and_into_the_release(tmp_path: Path) -> None:
    cohorts = {name: make_cohort(40, seed=number) for number, name in enumerate(SITES)}
    asked = replace(make_sites(), cohorts=cohorts)
    make_run(tmp_path, asked, landmark_months=12.0).play()
    free = [sum(p.time_months > 12 for p in c.patients) for c in cohorts.values()]
    assert [record.num_patients for record in read_sites(tmp_path)] == free
    assert load_release(tmp_path / RELEASE_FOLDER)[1].landmark_months == 12.0


@pytest.mark.parametrize("by", ["mean_loss", "worst_loss", "mean_c", "worst_c"])
def test_the_best_rounds_model_is_released_when_the_run_asks_for_it(
    sites: InProcessSites, tmp_path: Path, by: SelectBy
) -> None:
    run = make_run(tmp_path, sites, rounds=3)
    strategy = run.plan.strategy.model_copy(update={"select_by": by})
    run.plan = run.plan.model_copy(update={"strategy": strategy})
    run.play()
    figures = {r.round: getattr(r, by) for r in read_rounds(tmp_path) if r.round}
    told = {number: value for number, value in figures.items() if value is not None}
    wanted = max if by.endswith("_c") else min
    expected = next(n for n in told if told[n] == wanted(told.values())) if told else 3
    arrays, description = load_release(tmp_path / RELEASE_FOLDER)
    assert description.round == expected
    assert flatten(arrays).tobytes() == parameters_after(tmp_path, expected)
    assert all(member.round < expected for member in description.members)


def test_the_best_round_is_the_earliest_of_equals_and_never_the_untrained() -> None:
    records = [
        RoundRecord(round=number, sites=[], mean_c=c, mean_loss=loss)
        for number, c, loss in (
            (0, 0.9, 1.0),
            (1, 0.6, 2.0),
            (2, 0.6, 1.5),
            (3, None, 1.7),
        )
    ]
    assert best_round(records, by="mean_c") == 1
    assert best_round(records, by="mean_loss") == 2
    assert best_round(records, by="worst_c") is None
