"""A run whose sites are in this process: for simulations and for tests.

The rounds, the requests, the answers, the signatures and the checks are those of a run
over the network; only the way between is a function call. A site that fails is told by
its code, as it would be over the network.
"""

import base64
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from cryptography.hazmat.primitives.asymmetric import ec

from acf_server.answers import Exchange, RawAnswer
from acf_server.round_loop import RoundLoop
from acf_server.run_events import (
    RunEvent,
    RunFailed,
    RunFinished,
    RunStopped,
    append_event,
)
from acf_server.run_files import RUN_LOCK, end_run, read_run
from acf_server.run_plan import RunPlan
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.errors import AcfnetError
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters
from acfnet_core.files import held_lock
from acfnet_core.identity.envelope import UpdateClaim, sign_update
from acfnet_core.training.site_round import Sign, answer_round

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LocalSite:
    """A site in this process.

    Attributes:
        runs_folder: What it remembers of a run; only some strategies need it.
    """

    name: str
    cohort: PreparedCohort
    key: ec.EllipticCurvePrivateKey
    device: torch.device
    runs_folder: Path | None = None

    def answer(self, request: RoundRequest, base: FlatParameters) -> RawAnswer:
        """Answer a round as it would come over the network; a failure is its code."""
        started = monotonic()
        try:
            answer = answer_round(
                request,
                base,
                self.cohort,
                site=self.name,
                device=self.device,
                sign=sign_with(self.key),
                runs_folder=self.runs_folder,
            )
        except AcfnetError as error:
            logger.warning("%s: %s", self.name, error.message)
            seconds = monotonic() - started
            return RawAnswer(site=self.name, seconds=seconds, code=error.code)
        return RawAnswer(
            site=self.name,
            seconds=monotonic() - started,
            reply=answer.reply.model_dump_json(),
            parameters=answer.parameters,
        )


@dataclass(frozen=True)
class InProcessExchange:
    """Asks the sites of this process, one after the other.

    Args:
        sites: In the order in which they answer.
    """

    sites: tuple[LocalSite, ...]

    def __call__(
        self, request: RoundRequest, base: FlatParameters
    ) -> Iterator[RawAnswer]:
        """Exchange one round."""
        for site in self.sites:
            yield site.answer(request, base)


def sign_with(key: ec.EllipticCurvePrivateKey) -> Sign:
    """Return what signs a claim for a site."""

    def sign(claim: UpdateClaim) -> str:
        return base64.b64encode(sign_update(key, claim)).decode()

    return sign


def play_run(
    plan: RunPlan,
    run_folder: Path,
    exchange: Exchange,
    notify: Callable[[RunEvent], None],
) -> None:
    """Run all rounds here and write down how the run ended.

    Args:
        plan: The resolved run.
        run_folder: From `write_run`.
        exchange: Brings requests to the sites.
        notify: Takes each event after it was written.

    Raises:
        AcfnetError: What ended the run.
    """

    def announce(event: RunEvent) -> None:
        notify(append_event(run_folder, event))

    started = monotonic()
    with held_lock(run_folder / RUN_LOCK, what="this run"):
        try:
            RoundLoop(plan, run_folder, exchange, announce).run()
            end_run(run_folder, "finished")
            announce(RunFinished(rounds=plan.rounds, seconds=monotonic() - started))
        except AcfnetError as error:
            end_run(run_folder, "failed")
            announce(RunFailed.model_validate(error.as_json()))
            raise
        finally:
            if read_run(run_folder).status == "running":
                # Whoever interrupts it here has ended it: nobody takes it up again.
                end_run(run_folder, "stopped")
                announce(RunStopped())
