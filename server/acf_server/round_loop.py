"""The rounds of a run: ask the sites, admit, average, keep, record.

This is the run's own logic. It knows nothing of Flower: `exchange` brings requests to
the sites and answers back, over the network (exchange.py) or in one process (tests).
"""

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from numpy import float32
from numpy.linalg import norm
from numpy.typing import NDArray

from acf_server.round_records import RoundBook
from acf_server.run_events import (
    ModelJudged,
    RoundStarted,
    RunEvent,
    SiteAnswered,
    SiteFailed,
)
from acf_server.run_plan import RunPlan
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.admission import (
    AdmissionRules,
    AdmittedUpdate,
    admit,
    check_reply,
    refusal,
)
from acfnet_core.federation.aggregation import weighted_mean
from acfnet_core.federation.checkpoint import load_checkpoint, save_checkpoint
from acfnet_core.federation.messages import (
    RoundReply,
    RoundRequest,
    claim_about,
    parse_failure,
    parse_reply,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    NamedArrays,
    flatten,
    layout_of,
    sha256_of,
    unflatten,
)
from acfnet_core.federation.release import RELEASE_FOLDER, save_release
from acfnet_core.identity.envelope import verify_update
from acfnet_core.identity.keys import load_public_key
from acfnet_core.model.config import AcfNetConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """What came from a site, unchecked: a reply, a failure, or a code of our own."""

    site: str
    seconds: float
    reply: str | None = None
    failure: str | None = None
    code: str | None = None
    """Set when no answer came: why."""
    parameters: NDArray[float32] | None = None


Exchange = Callable[[RoundRequest, FlatParameters], Iterator[RawAnswer]]
"""Sends a round's request to every site of the roster; yields one answer for each."""


@dataclass(frozen=True, kw_only=True)
class CheckedAnswer:
    """A site's admitted reply and, if it trained, its update."""

    reply: RoundReply
    update: AdmittedUpdate | None


@dataclass
class RoundLoop:
    """One run, from its initial model to its last round.

    Args:
        plan: The resolved run.
        run_folder: Holds the initial checkpoint; receives the others and the records.
        exchange: Brings requests to the sites and answers back.
        announce: Takes each event as it happens.
    """

    plan: RunPlan
    run_folder: Path
    exchange: Exchange
    announce: Callable[[RunEvent], None]
    book: RoundBook = field(init=False)

    def __post_init__(self) -> None:
        self.book = RoundBook(self.run_folder, [s.name for s in self.plan.sites])
        self._keys = {
            s.name: load_public_key(s.public_key_pem) for s in self.plan.sites
        }

    def run(self) -> None:
        """Train for all rounds, release the last model and have the sites judge it.

        Raises:
            ProtocolError: `protocol.too_few_sites`: the last good model is kept.
            DataError: The initial checkpoint is damaged.
        """
        arrays, _ = load_checkpoint(self.run_folder, 0)
        layout = layout_of(arrays)
        base = flatten(arrays)
        for round_number in range(1, self.plan.rounds + 1):
            answers = self._round(round_number, base, layout.sha256())
            updates = [a.update for a in answers if a.update is not None]
            if len(updates) < self.plan.minimum_sites:
                raise _too_few(round_number, len(updates), self.plan.minimum_sites)
            merged = weighted_mean(updates, cap=self.plan.strategy.max_share)
            save_checkpoint(
                self.run_folder,
                unflatten(merged, layout),
                run=self.plan.run,
                round_number=round_number,
                contributors={u.site: u.num_examples for u in updates},
            )
            self.book.note_update(round_number, float(norm(merged - base)))
            base = merged
        save_release(
            self.run_folder / RELEASE_FOLDER,
            unflatten(base, layout),
            run=self.plan.run,
            model=self.plan.model,
            contract_sha256=self.plan.contract_sha256,
            landmark_months=self.plan.landmark_months,
            supported_months=self._supported_months(),
            members=self._members(),
        )
        self._judge_last(base, layout.sha256())

    def _supported_months(self) -> float | None:
        """Return how far the hazards rest on patients who were at risk.

        The model is one for all sites, so the site that followed longest decides; what
        it says beyond the model's last bin says nothing of the model.
        """
        followed = self.book.followed_months()
        if followed is None:
            return None
        config = AcfNetConfig.model_validate(self.plan.model)
        return min(followed, config.bin_edges_months[-1])

    def _members(self) -> dict[int, NamedArrays]:
        """Return the models of the last rounds before the final one, by round."""
        final = self.plan.rounds
        first = max(1, final - self.plan.strategy.release_members)
        return {r: load_checkpoint(self.run_folder, r)[0] for r in range(first, final)}

    def _judge_last(self, base: FlatParameters, layout_sha256: str) -> None:
        """Have the sites judge the trained model; it is trained without that too."""
        try:
            self._round(self.plan.rounds + 1, base, layout_sha256)
        except ProtocolError as error:
            logger.warning("The last model was not judged: %s", error.message)
            self.book.note_judgement(self.plan.rounds, [])

    def _round(
        self, round_number: int, base: FlatParameters, layout_sha256: str
    ) -> list[CheckedAnswer]:
        """Exchange one round and record what the sites say of the model they got."""
        plan = self.plan
        request = RoundRequest(
            run=plan.run,
            round=round_number,
            num_rounds=plan.rounds,
            trains=round_number <= plan.rounds,
            seed=plan.seed,
            contract_sha256=plan.contract_sha256,
            layout_sha256=layout_sha256,
            base_sha256=sha256_of(base),
            model=plan.model,
            training=plan.training,
            loss=plan.loss,
            landmark_months=plan.landmark_months,
        )
        names = tuple(site.name for site in plan.sites)
        self.announce(
            RoundStarted(round=round_number, num_rounds=plan.rounds, sites=names)
        )
        started = monotonic()
        checked = []
        for raw in self.exchange(request, base):
            answer = self._take(raw, request, base)
            if answer is not None:
                checked.append(answer)
        self.book.note_cost(
            round_number,
            seconds=monotonic() - started,
            bytes_sent=base.nbytes * len(names),
            bytes_received=sum(a.update is not None for a in checked) * base.nbytes,
        )
        judged = self.book.note_judgement(round_number - 1, [a.reply for a in checked])
        self.announce(
            ModelJudged(
                round=judged.round,
                num_rounds=plan.rounds,
                num_patients=judged.num_patients,
                num_patients_c=judged.num_patients_c,
                mean_loss=judged.mean_loss,
                mean_c=judged.mean_c,
                worst_c=judged.worst_c,
                worst_c_site=judged.worst_c_site,
            )
        )
        return checked

    def _take(
        self, raw: RawAnswer, request: RoundRequest, base: FlatParameters
    ) -> CheckedAnswer | None:
        """Check one answer; a refusal is recorded and the round goes on."""
        try:
            answer = self._check(raw, request, base)
        except AcfnetError as error:
            logger.warning("Round %d: %s", request.round, error.message)
            self._note(request, raw, code=error.code)
            return None
        self._note(request, raw, code=None if answer else _failure_code(raw))
        return answer

    def _check(
        self, raw: RawAnswer, request: RoundRequest, base: FlatParameters
    ) -> CheckedAnswer | None:
        """Return the checked answer, or None if the site sent a failure or nothing."""
        if raw.reply is None:
            return None
        reply = parse_reply(raw.reply)
        check_reply(reply, request, site=raw.site)
        claim = claim_about(
            request,
            site=raw.site,
            parameters_sha256=reply.parameters_sha256,
            num_examples=reply.num_examples,
        )
        verify_update(self._keys[raw.site], claim, _decode(reply.signature, raw.site))
        if not request.trains:
            return CheckedAnswer(reply=reply, update=None)
        if raw.parameters is None:
            raise refusal(raw.site, "the reply came without parameters")
        rules = AdmissionRules(
            num_values=base.size,
            max_examples=self.plan.strategy.max_examples,
            max_update_norm=self.plan.strategy.max_update_norm,
        )
        update = admit(reply, raw.parameters, base=base, rules=rules)
        return CheckedAnswer(reply=reply, update=update)

    def _note(self, request: RoundRequest, raw: RawAnswer, *, code: str | None) -> None:
        self.book.note_answer(request.round, raw.site, seconds=raw.seconds, code=code)
        where = {"round": request.round, "site": raw.site, "seconds": raw.seconds}
        if code is None:
            self.announce(SiteAnswered.model_validate(where))
        else:
            self.announce(SiteFailed.model_validate({**where, "code": code}))


def _failure_code(raw: RawAnswer) -> str:
    """Return why there is no reply; what cannot be read has a code as well."""
    if raw.code is not None:
        return raw.code
    try:
        return parse_failure(raw.failure or "").code
    except ProtocolError as error:
        return error.code


def _decode(signature: str, site: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise refusal(site, "its signature is not base64") from error


def _too_few(round_number: int, found: int, minimum: int) -> ProtocolError:
    return ProtocolError(
        "protocol.too_few_sites",
        f"Round {round_number}: {found} sites gave an update that could be used; "
        f"the run needs {minimum}.",
        remedy="See in the Sites table of the run's report which sites failed and why; "
        "mend that and start a new run, or lower run.minimum_sites.",
    )
