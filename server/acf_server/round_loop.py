"""The rounds of a run: ask the sites, admit, average, keep, record.

This is the run's own logic. It knows nothing of Flower: `exchange` brings requests to
the sites and answers back, over the network (exchange.py) or in one process (tests).
"""

import base64
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

import numpy as np

from acf_server.answers import CheckedAnswer, Exchange, RawAnswer, failure_code
from acf_server.round_records import RoundBook, best_round
from acf_server.run_events import (
    ModelJudged,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunResumed,
    SiteAnswered,
    SiteFailed,
)
from acf_server.run_files import RoundPhases, RoundRecord
from acf_server.run_plan import RunPlan
from acf_server.strategies import RunStrategy
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.admission import AdmittedUpdate, check_reply, refusal
from acfnet_core.federation.blocks import norm_of_difference
from acfnet_core.federation.checkpoint import (
    ModelsOfRounds,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from acfnet_core.federation.messages import (
    RoundRequest,
    claim_about,
    parse_reply,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    NamedArrays,
    ParameterLayout,
    flatten,
    layout_of,
    parts_of,
    sha256_of,
)
from acfnet_core.federation.release import RELEASE_FOLDER, save_release
from acfnet_core.files import describe_os_error, make_folder
from acfnet_core.identity.envelope import verify_update
from acfnet_core.identity.keys import load_public_key
from acfnet_core.model.config import AcfNetConfig

logger = logging.getLogger(__name__)

UPDATES_FOLDER = "updates"
"""Of a run's folder: the admitted updates of the round that is going on."""


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
    _exchanged: RoundPhases = field(init=False)

    def __post_init__(self) -> None:
        self._strategy = RunStrategy(self.plan)
        self._names = tuple(site.name for site in self.plan.sites)
        self._keys = {
            s.name: load_public_key(s.public_key_pem) for s in self.plan.sites
        }

    def run(self) -> None:
        """Train from the last complete round on, release the model and have it judged.

        A round depends on the model before it, the strategy's state, the plan and the
        sites' data alone, so a run that is taken up again ends with the same bits.

        Raises:
            ProtocolError: `protocol.too_few_sites`: the last good model is kept.
            DataError: The initial checkpoint is damaged.
        """
        plan = self.plan
        last = latest_checkpoint(self.run_folder)
        done = last.manifest.round
        self.book = RoundBook(
            self.run_folder, self._names, num_rounds=plan.rounds, last_round=done
        )
        if done:
            self.announce(RunResumed(round=done, num_rounds=plan.rounds))
        layout = layout_of(last.arrays)
        base, state = flatten(last.arrays), last.state
        del last
        for round_number in range(done + 1, plan.rounds + 1):
            base, state = self._train_round(round_number, base, state, layout)
        select_by = plan.strategy.select_by
        if self._strategy.makes_a_model and select_by == "last":
            # Before the sites judge it: a model is there whatever they answer.
            self._release(plan.rounds)
        self._judge_last(base, state, layout.sha256())
        if self._strategy.makes_a_model and select_by != "last":
            best = best_round(self.book.records(), by=select_by)
            self._release(plan.rounds if best is None else best)

    def _train_round(
        self,
        round_number: int,
        base: FlatParameters,
        state: NamedArrays,
        layout: ParameterLayout,
    ) -> tuple[FlatParameters, NamedArrays]:
        """Have the sites train, and write what comes of it as the round's checkpoint.

        Returns:
            The new model, and what the strategy remembers.
        """
        plan = self.plan
        answers = self._round(round_number, base, state, layout.sha256())
        answered = monotonic()
        updates = [a.update for a in answers if a.update is not None]
        if len(updates) < plan.minimum_sites:
            raise _too_few(
                self.book.round(round_number), len(updates), plan.minimum_sites
            )
        merged, state = self._strategy.aggregate(
            updates, base=base, state=state, round_number=round_number
        )
        combined = monotonic()
        self.book.note_update(round_number, norm_of_difference(merged, base))
        contributors = {u.site: u.num_examples for u in updates}
        # The updates' files are in this process's memory for as long as they are known.
        del answers, updates
        save_checkpoint(
            self.run_folder,
            parts_of(merged, layout),
            run=plan.run,
            round_number=round_number,
            contributors=contributors,
            state=state,
        )
        self._drop_updates()
        self._finish_round(
            round_number, combining=combined - answered, writing=monotonic() - combined
        )
        return merged, state

    def _finish_round(
        self, round_number: int, *, combining: float, writing: float
    ) -> None:
        """Tell what a round has cost, now that it is complete."""
        phases = self._exchanged.model_copy(
            update={"combining": combining, "writing": writing}
        )
        record = self.book.note_phases(round_number, phases)
        self.announce(
            RoundFinished(
                round=round_number,
                num_rounds=self.plan.rounds,
                phases=phases,
                bytes_sent=record.bytes_sent,
                bytes_received=record.bytes_received,
            )
        )

    def _release(self, number: int) -> None:
        """Write the model of a round as the trained one, with those before it."""
        save_release(
            self.run_folder / RELEASE_FOLDER,
            load_checkpoint(self.run_folder, number)[0],
            run=self.plan.run,
            model=self.plan.model,
            contract_sha256=self.plan.contract_sha256,
            landmark_months=self.plan.landmark_months,
            supported_months=self._supported_months(),
            members=self._members(number),
            round_number=number,
        )

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

    def _members(self, number: int) -> ModelsOfRounds:
        """Return the models of the last rounds before a round, by round."""
        first = max(1, number - self.plan.strategy.release_members)
        return ModelsOfRounds(self.run_folder, range(first, number))

    def _judge_last(
        self, base: FlatParameters, state: NamedArrays, layout_sha256: str
    ) -> None:
        """Have the sites judge the trained model; it is trained without that too."""
        try:
            self._round(self.plan.rounds + 1, base, state, layout_sha256)
        except ProtocolError as error:
            logger.warning("The last model was not judged: %s", error.message)
            self.book.note_judgement(self.plan.rounds, [])

    def _round(
        self,
        round_number: int,
        base: FlatParameters,
        state: NamedArrays,
        layout_sha256: str,
    ) -> list[CheckedAnswer]:
        """Exchange one round and record what the sites say of the model they got."""
        plan, trains = self.plan, round_number <= self.plan.rounds
        sent = self._strategy.vector_to_send(base, state)
        request = RoundRequest(
            run=plan.run,
            round=round_number,
            num_rounds=plan.rounds,
            trains=trains,
            seed=plan.seed,
            contract_sha256=plan.contract_sha256,
            layout_sha256=layout_sha256,
            base_sha256=sha256_of(sent),
            model=plan.model,
            training=plan.training,
            loss=plan.loss,
            landmark_months=plan.landmark_months,
        ).model_copy(update=self._strategy.request_fields(state, trains=trains))
        names = self._names
        self.announce(
            RoundStarted(round=round_number, num_rounds=plan.rounds, sites=names)
        )
        started, checking = monotonic(), 0.0
        checked = []
        for raw in self.exchange(request, sent):
            came = monotonic()
            answer = self._take(raw, request, sent)
            checking += monotonic() - came
            if answer is not None:
                checked.append(answer)
        seconds = monotonic() - started
        self._exchanged = RoundPhases(
            waiting=seconds - checking, checking=checking, combining=0.0, writing=0.0
        )
        self.book.note_cost(
            round_number,
            seconds=seconds,
            bytes_sent=sent.nbytes * len(names),
            bytes_received=sum(a.num_bytes for a in checked),
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
        self, raw: RawAnswer, request: RoundRequest, sent: FlatParameters
    ) -> CheckedAnswer | None:
        """Check one answer; a refusal is recorded and the round goes on."""
        try:
            answer = self._check(raw, request, sent)
        except AcfnetError as error:
            logger.warning("Round %d: %s", request.round, error.message)
            self._note(request, raw, code=error.code)
            return None
        if answer is None:
            self._note(request, raw, code=failure_code(raw))
        else:
            self._note(request, raw, computing_seconds=answer.reply.seconds)
        return answer

    def _check(
        self, raw: RawAnswer, request: RoundRequest, sent: FlatParameters
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
            reading_sha256=reply.reading_sha256,
        )
        verify_update(self._keys[raw.site], claim, _decode(reply.signature, raw.site))
        if not request.trains:
            return CheckedAnswer(reply=reply, update=None)
        update = self._strategy.admit(reply, raw.parameters, sent=sent)
        if raw.parameters is None:
            return CheckedAnswer(reply=reply, update=update)
        return CheckedAnswer(
            reply=reply,
            update=self._put_aside(update),
            num_bytes=raw.parameters.nbytes,
        )

    def _put_aside(self, update: AdmittedUpdate) -> AdmittedUpdate:
        """Keep an update on the disk: memory does not grow with the number of sites."""
        folder = make_folder(self.run_folder / UPDATES_FOLDER, private=True)
        path = folder / f"{update.site}.f32"
        try:
            update.parameters.tofile(path)
        except OSError as error:
            raise describe_os_error(error, path) from error
        kept = np.memmap(path, dtype=np.float32, mode="r")
        return replace(update, parameters=kept)

    def _drop_updates(self) -> None:
        shutil.rmtree(self.run_folder / UPDATES_FOLDER, ignore_errors=True)

    def _note(
        self,
        request: RoundRequest,
        raw: RawAnswer,
        *,
        code: str | None = None,
        computing_seconds: float | None = None,
    ) -> None:
        self.book.note_answer(
            request.round,
            raw.site,
            seconds=raw.seconds,
            computing_seconds=computing_seconds,
            code=code,
        )
        where = {"round": request.round, "site": raw.site, "seconds": raw.seconds}
        if code is None:
            told = {**where, "computing_seconds": computing_seconds}
            self.announce(SiteAnswered.model_validate(told))
        else:
            self.announce(SiteFailed.model_validate({**where, "code": code}))


def _decode(signature: str, site: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise refusal(site, "its signature is not base64") from error


def _too_few(record: RoundRecord, found: int, minimum: int) -> ProtocolError:
    reasons = [f"{row.name} ({row.code})" for row in record.sites if row.code]
    return ProtocolError(
        "protocol.too_few_sites",
        f"Round {record.round}: {found} sites gave an update that could be used; "
        f"the run needs {minimum}. Without one: {', '.join(reasons)}.",
        remedy="Mend what the codes say, then continue after the last complete round: "
        "acf-server run resume RUN",
    )
