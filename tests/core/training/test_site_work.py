import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references.cohorts import make_cohort, with_events
from references.site_rounds import ask_to_train, small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.messages import LocalStrategy
from acfnet_core.federation.parameters import flatten, sha256_of
from acfnet_core.federation.strategies.scaffold import halves
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.model.network import AcfNet
from acfnet_core.training.model_arrays import model_arrays
from acfnet_core.training.site_round import SiteAnswer, answer_round
from acfnet_core.training.site_state import SiteState

SITE = "hospital-a"
CPU = torch.device("cpu")
RATE = 0.05
TRAINING: dict[str, Any] = {
    "local_steps": 3,
    "batch_size": 8,
    "optimiser": "sgd",
    "learning_rate": RATE,
    "weight_decay": 0.0,
}


@pytest.fixture(scope="module")
def cohort() -> PreparedCohort:
    return make_cohort(30, seed=1)


def _no_signature(claim: UpdateClaim) -> str:
    return base64.b64encode(claim.site.encode()).decode()


@dataclass
class SiteUnderTest:
    """A site and its folder of runs."""

    cohort: PreparedCohort
    runs_folder: Path

    def answer(
        self,
        name: Any,
        *,
        round: int = 1,
        last: int = 0,
        control: np.ndarray | None = None,
        proximal_mu: float = 0.0,
        model: AcfNet | None = None,
        **changes: Any,
    ) -> SiteAnswer:
        """Answer a request that goes on from the site's work in round `last`."""
        request, base = ask_to_train(
            model or small_model(),
            self.cohort,
            round=round,
            num_rounds=9,
            **{"training": TRAINING, **changes},
        )
        local = LocalStrategy(
            name=name,
            proximal_mu=proximal_mu,
            last_rounds={SITE: last} if last else {},
        )
        if name == "scaffold":
            second = np.zeros_like(base) if control is None else control
            base = np.concatenate([base, second])
        request = request.model_copy(
            update={"local_strategy": local, "base_sha256": sha256_of(base)}
        )
        return answer_round(
            request,
            base,
            self.cohort,
            site=SITE,
            device=CPU,
            sign=_no_signature,
            runs_folder=self.runs_folder,
        )

    @property
    def state(self) -> SiteState:
        """What it remembers of the run."""
        return SiteState(self.runs_folder / "run-1")


@pytest.fixture
def site(cohort: PreparedCohort, tmp_path: Path) -> SiteUnderTest:
    return SiteUnderTest(cohort, tmp_path)


def sent(answer: SiteAnswer) -> np.ndarray:
    assert answer.parameters is not None
    return answer.parameters


def initial() -> np.ndarray:
    return flatten(model_arrays(small_model()))


def some_control(scale: float = 0.01) -> np.ndarray:
    values = scale * np.random.default_rng(3).normal(size=initial().size)
    return values.astype(np.float32)


def test_scaffold_without_controls_trains_as_plain_descent_does(
    site: SiteUnderTest,
) -> None:
    parameters, _ = halves(sent(site.answer("scaffold")))
    assert parameters.tobytes() == sent(site.answer("plain")).tobytes()


def test_the_first_change_is_the_mean_gradient_of_the_steps(
    site: SiteUnderTest,
) -> None:
    parameters, change = halves(sent(site.answer("scaffold")))
    expected = (initial().astype(np.float64) - parameters) / (3 * RATE)
    np.testing.assert_allclose(change, expected, rtol=1e-5, atol=1e-7)


def test_the_site_remembers_its_control_variate(site: SiteUnderTest) -> None:
    _, change = halves(sent(site.answer("scaffold")))
    assert site.state.load(1).tobytes() == change.tobytes()


def test_a_control_of_the_server_steers_the_site(site: SiteUnderTest) -> None:
    control = some_control()
    plain, _ = halves(sent(site.answer("scaffold")))
    steered, _ = halves(sent(site.answer("scaffold", control=control)))
    moved = (plain.astype(np.float64) - steered) / (3 * RATE)
    # To first order; the second and the third gradient are taken a little elsewhere.
    assert np.corrcoef(moved, control)[0, 1] > 0.95


def test_a_site_whose_control_is_the_servers_is_not_steered(
    site: SiteUnderTest,
) -> None:
    site.answer("scaffold")
    own = site.state.load(1)
    steered = sent(site.answer("scaffold", round=2, last=1, control=own))
    plain = sent(site.answer("plain", round=2))
    assert halves(steered)[0].tobytes() == plain.tobytes()


def test_the_sum_of_the_changes_is_what_the_site_remembers(
    site: SiteUnderTest,
) -> None:
    control, total = some_control(), np.zeros(initial().size)
    for number in (1, 2, 3):
        answer = site.answer("scaffold", round=number, last=number - 1, control=control)
        total += halves(sent(answer))[1]
    np.testing.assert_allclose(site.state.load(3), total, atol=1e-6)


@pytest.mark.parametrize("name", ["scaffold", "local_only"])
def test_a_repeated_round_begins_where_it_began_the_first_time(
    site: SiteUnderTest, name: str
) -> None:
    site.answer(name)
    first = site.answer(name, round=2, last=1)
    remembered = site.state.load(2).tobytes()
    # The server never took that answer, nor one to a third round; it asks again.
    site.answer(name, round=3, last=1)
    again = site.answer(name, round=2, last=1)
    assert again.reply.parameters_sha256 == first.reply.parameters_sha256
    assert site.state.load(2).tobytes() == remembered


@pytest.mark.parametrize("name", ["scaffold", "local_only"])
def test_a_round_that_was_not_taken_does_not_count(
    site: SiteUnderTest, name: str, tmp_path: Path
) -> None:
    site.answer(name)
    site.answer(name, round=2, last=1)
    late = site.answer(name, round=3, last=1)
    other = SiteUnderTest(site.cohort, tmp_path / "other")
    other.answer(name)
    never = other.answer(name, round=3, last=1)
    assert late.reply.parameters_sha256 == never.reply.parameters_sha256
    assert site.state.load(3).tobytes() == other.state.load(3).tobytes()


def test_what_is_remembered_is_written_before_the_answer_is_signed(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    seen: list[list[int]] = []

    def sign(claim: UpdateClaim) -> str:
        seen.append(SiteState(tmp_path / claim.run).rounds())
        return _no_signature(claim)

    request, base = ask_to_train(small_model(), cohort, training=TRAINING)
    local = LocalStrategy(name="local_only")
    answer_round(
        request.model_copy(update={"local_strategy": local}),
        base,
        cohort,
        site=SITE,
        device=CPU,
        sign=sign,
        runs_folder=tmp_path,
    )
    assert seen == [[1]]


def test_early_stopping_at_the_received_model_changes_no_control(
    tmp_path: Path,
) -> None:
    many = with_events(make_cohort(60, seed=1), 40)
    site = SiteUnderTest(many, tmp_path)
    training = {
        **TRAINING,
        "validation_share": 0.25,
        "learning_rate": 1.0,
        "max_grad_norm": 1e4,
    }
    # So large a correction makes the model worse from its first step on.
    control = some_control(scale=30.0)
    parameters, change = halves(
        sent(site.answer("scaffold", training=training, control=control))
    )
    assert parameters.tobytes() == initial().tobytes()
    assert not change.any()


def test_only_the_steps_that_early_stopping_keeps_count(tmp_path: Path) -> None:
    many = with_events(make_cohort(60, seed=1), 40)
    site = SiteUnderTest(many, tmp_path)
    training = {**TRAINING, "validation_share": 0.25, "local_steps": 24}
    answer = site.answer("scaffold", training=training | {"batch_size": 15})
    parameters, change = halves(sent(answer))
    moved = initial().astype(np.float64) - parameters
    num_kept = np.linalg.norm(moved) / (RATE * np.linalg.norm(change))
    assert num_kept == pytest.approx(18, abs=1e-2)
    assert answer.reply.num_steps == 24


def test_the_proximal_pull_reaches_the_training(site: SiteUnderTest) -> None:
    def moved(mu: float) -> float:
        return float(
            np.linalg.norm(sent(site.answer("fedprox", proximal_mu=mu)) - initial())
        )

    assert moved(15.0) < moved(0.0)


def test_nothing_leaves_a_site_that_trains_alone(site: SiteUnderTest) -> None:
    answer = site.answer("local_only")
    assert answer.parameters is None
    assert answer.reply.parameters_sha256 is None
    assert (answer.reply.num_steps, answer.reply.num_examples) == (3, 30)


def test_a_site_alone_goes_on_from_its_own_parameters(site: SiteUnderTest) -> None:
    site.answer("local_only")
    first = site.state.load(1)
    assert first.tobytes() == sent(site.answer("plain")).tobytes()
    site.answer("local_only", round=2, last=1)
    model = small_model()
    from_first = sent(
        site.answer("plain", round=2, model=with_parameters(model, first))
    )
    assert site.state.load(2).tobytes() == from_first.tobytes()


def with_parameters(model: AcfNet, values: np.ndarray) -> AcfNet:
    start = 0
    with torch.no_grad():
        for name in sorted(dict(model.named_parameters())):
            parameter = model.get_parameter(name)
            stop = start + parameter.numel()
            part = torch.from_numpy(values[start:stop].copy())
            parameter.copy_(part.reshape(parameter.shape))
            start = stop
    return model


def test_a_site_alone_is_judged_by_its_own_model(site: SiteUnderTest) -> None:
    before = site.answer("local_only").reply.metrics.loss
    after = site.answer("local_only", round=2, last=1).reply.metrics.loss
    assert before != after
    assert before == site.answer("plain").reply.metrics.loss


@pytest.mark.parametrize("last", [2, 3])
def test_going_on_from_a_round_to_come_is_refused(
    site: SiteUnderTest, last: int
) -> None:
    with pytest.raises(ProtocolError, match=f"Round 2 is to go on from round {last}"):
        site.answer("scaffold", round=2, last=last)


def test_a_state_that_is_gone_is_an_error_and_no_new_beginning(
    site: SiteUnderTest,
) -> None:
    with pytest.raises(AcfnetError) as caught:
        site.answer("scaffold", round=2, last=1)
    assert caught.value.code == "data.store_damaged"


def test_a_state_of_another_model_is_refused(site: SiteUnderTest) -> None:
    site.state.save(1, np.zeros(5, np.float32), after=0)
    with pytest.raises(ProtocolError, match="remembers 5 values of the run"):
        site.answer("local_only", round=2, last=1)


@pytest.mark.parametrize("name", ["scaffold", "local_only"])
def test_without_a_folder_there_is_nothing_to_remember_by(
    cohort: PreparedCohort, name: Any
) -> None:
    site = SiteUnderTest(cohort, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} needs a folder"):
        site.answer(name)


@pytest.mark.parametrize("name", ["plain", "scaffold"])
def test_a_vector_of_another_length_is_refused(
    cohort: PreparedCohort, name: Any
) -> None:
    request, base = ask_to_train(small_model(), cohort)
    wrong = np.concatenate([base, base[:5]])
    local = LocalStrategy(name=name)
    changed = {"local_strategy": local, "base_sha256": sha256_of(wrong)}
    with pytest.raises(ProtocolError) as caught:
        answer_round(
            request.model_copy(update=changed),
            wrong,
            cohort,
            site=SITE,
            device=CPU,
            sign=_no_signature,
        )
    assert caught.value.code == "protocol.version_mismatch"


def test_the_last_model_is_judged_by_its_first_half(site: SiteUnderTest) -> None:
    answer = site.answer("scaffold", trains=False, control=some_control())
    assert answer.parameters is None
    assert answer.reply.metrics == site.answer("plain", trains=False).reply.metrics
