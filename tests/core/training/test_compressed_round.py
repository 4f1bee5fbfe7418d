import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from references.cohorts import make_cohort
from references.federated_run import CPU
from references.site_rounds import ask_to_train, small_model

from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import DataError, ProtocolError
from acfnet_core.federation.compression import (
    UpdateSettings,
    compress_update,
    received_parameters,
)
from acfnet_core.federation.messages import LocalStrategy
from acfnet_core.federation.parameters import FlatParameters, sha256_of
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.training import site_work
from acfnet_core.training.site_round import SiteAnswer, answer_round
from acfnet_core.training.site_state import STATE_FOLDER, SiteState

SITE = "hospital-a"
HALVES = UpdateSettings(compression="float16")
LARGEST = UpdateSettings(compression="top_k", top_k_share=0.1)
BOTH = pytest.mark.parametrize("kind", [HALVES, LARGEST], ids=lambda k: k.compression)


@dataclass
class CompressedSite:
    """A site that is asked for encoded updates of the same model again and again."""

    runs_folder: Path | None
    cohort: PreparedCohort
    claims: list[UpdateClaim] = field(default_factory=list)

    def answer(
        self, kind: UpdateSettings, number: int = 1, *, last: int = 0, **changes: Any
    ) -> SiteAnswer:
        """Answer a round that goes on from what followed from round `last`."""
        local = LocalStrategy(last_rounds={SITE: last} if last else {})
        request, base = ask_to_train(
            small_model(),
            self.cohort,
            round=number,
            num_rounds=9,
            local_strategy=local.model_dump(),
            updates=kind.model_dump(),
            **changes,
        )
        return answer_round(
            request,
            base,
            self.cohort,
            site=SITE,
            device=CPU,
            sign=self._sign,
            runs_folder=self.runs_folder,
        )

    @property
    def state(self) -> SiteState:
        """What it remembers of the run."""
        assert self.runs_folder is not None
        return SiteState(self.runs_folder / "run-1")

    def base(self) -> FlatParameters:
        """Return the model that it is sent."""
        return ask_to_train(small_model(), self.cohort)[1]

    def _sign(self, claim: UpdateClaim) -> str:
        self.claims.append(claim)
        return base64.b64encode(b"signature").decode()


@pytest.fixture
def site(tmp_path: Path) -> CompressedSite:
    return CompressedSite(tmp_path, make_cohort(12, seed=3))


def sent(answer: SiteAnswer) -> np.ndarray:
    assert answer.parameters is not None
    return answer.parameters


@BOTH
def test_what_is_sent_has_the_length_that_was_agreed(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    encoded = sent(site.answer(kind))
    assert encoded.dtype == np.uint8
    assert encoded.size == kind.num_bytes(site.base().size)


@BOTH
def test_the_hash_is_of_what_the_server_decodes(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    answer = site.answer(kind)
    received = received_parameters(sent(answer), site.base(), kind)
    assert answer.reply.parameters_sha256 == sha256_of(received)


@BOTH
def test_the_compression_is_declared_and_signed(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    reply = site.answer(kind).reply
    assert reply.compression == kind.compression
    assert [claim.compression for claim in site.claims] == [kind.compression]


@BOTH
def test_sent_and_kept_are_what_training_changed(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    trained = sent(site.answer(UpdateSettings()))
    received = received_parameters(sent(site.answer(kind)), site.base(), kind)
    kept = site.state.load(1)
    assert np.abs(kept).max() > 0
    np.testing.assert_allclose(received + kept, trained, atol=1e-6)


@BOTH
def test_what_was_kept_is_added_in_the_next_round(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    site.answer(kind, 1)
    first = site.state.load(1)
    trained = sent(site.answer(UpdateSettings(), 2))
    received = received_parameters(
        sent(site.answer(kind, 2, last=1)), site.base(), kind
    )
    np.testing.assert_allclose(
        received + site.state.load(2), trained + first, atol=1e-6
    )


@BOTH
def test_a_round_that_is_asked_for_again_gives_the_same_bytes(
    site: CompressedSite, kind: UpdateSettings
) -> None:
    site.answer(kind, 1)
    once = sent(site.answer(kind, 2, last=1))
    kept = site.state.load(2)
    again = sent(site.answer(kind, 2, last=1))
    assert once.tobytes() == again.tobytes()
    assert site.state.load(2).tobytes() == kept.tobytes()


def test_after_an_answer_that_was_not_taken_the_residual_before_it_counts(
    site: CompressedSite,
) -> None:
    site.answer(LARGEST, 1)
    site.answer(LARGEST, 2, last=1)
    lost = sent(site.answer(LARGEST, 3, last=1))
    other = CompressedSite(site.state.run_folder.parent / "other", site.cohort)
    other.answer(LARGEST, 1)
    assert sent(other.answer(LARGEST, 3, last=1)).tobytes() == lost.tobytes()


def test_a_residual_that_is_lost_is_an_error(site: CompressedSite) -> None:
    site.answer(HALVES, 1)
    for path in (site.state.run_folder / STATE_FOLDER).iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        site.answer(HALVES, 2, last=1)
    assert caught.value.code == "data.store_damaged"


@BOTH
def test_the_residual_is_on_the_disk_before_the_answer_is_made(
    site: CompressedSite, kind: UpdateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise InterruptedError

    monkeypatch.setattr(site_work, "sha256_of", fail)
    with pytest.raises(InterruptedError):
        site.answer(kind)
    assert site.state.rounds() == [1]


def test_who_is_only_asked_to_judge_keeps_nothing(site: CompressedSite) -> None:
    answer = site.answer(UpdateSettings(), 9, last=0, trains=False)
    assert answer.parameters is None
    assert site.state.rounds() == []


def test_without_a_folder_nothing_can_be_encoded(site: CompressedSite) -> None:
    homeless = CompressedSite(None, site.cohort)
    with pytest.raises(ValueError, match="float16 needs a folder"):
        homeless.answer(HALVES)


def test_training_that_diverged_is_told_as_a_refused_update(
    site: CompressedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(base: FlatParameters, *_: object) -> object:
        return compress_update(base, np.full_like(base, np.nan), None, HALVES)

    monkeypatch.setattr(site_work, "compress_update", diverge)
    with pytest.raises(ProtocolError, match="values that are not finite") as caught:
        site.answer(HALVES)
    assert caught.value.code == "protocol.update_refused"
    assert site.state.rounds() == []


@pytest.mark.parametrize("name", ["scaffold", "local_only"])
def test_a_strategy_that_sends_more_or_less_cannot_be_asked_to_encode(
    site: CompressedSite, name: str
) -> None:
    local = {"local_strategy": {"name": name}}
    with pytest.raises(ValueError, match="more or less than parameters"):
        ask_to_train(small_model(), site.cohort, updates=HALVES.model_dump(), **local)
