"""What a site does with a round's request: judge the global model, train it, answer.

The same function runs at a hospital, in a simulation and in a test, so that "one site
federated equals the same step done locally" can be checked bit for bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import torch

from acfnet_core.cohort.landmark import view_at_landmark
from acfnet_core.cohort.prepared.store import PreparedCohort
from acfnet_core.federation.compression import SentValues
from acfnet_core.federation.messages import (
    PersonalComparison,
    RoundReply,
    RoundRequest,
    claim_about,
)
from acfnet_core.federation.parameters import (
    FlatParameters,
    flatten,
    layout_of,
    unflatten,
)
from acfnet_core.identity.envelope import UpdateClaim
from acfnet_core.model.network import AcfNet
from acfnet_core.objective.loss import LossConfig
from acfnet_core.training.compute import ComputeOptions
from acfnet_core.training.data_parallel import train_in_parallel
from acfnet_core.training.early_stopping import (
    LARGEST_BATCH,
    CohortParts,
    divide_cohort,
)
from acfnet_core.training.evaluation import (
    CohortPrediction,
    cohort_counts,
    followed_months,
    predict_cohort,
    site_metrics,
)
from acfnet_core.training.gradient_change import GradientChange
from acfnet_core.training.local_training import (
    PassValidated,
    StepFinished,
    TrainingEvent,
    train_locally,
)
from acfnet_core.training.model_arrays import load_arrays, model_arrays
from acfnet_core.training.personal_model import compare, figures_of, keep_own_model
from acfnet_core.training.reproducibility import derive_seed
from acfnet_core.training.request_checks import build_for, check_cohort, read_section
from acfnet_core.training.schedule import RoundOfRun
from acfnet_core.training.settings import (
    LocalTrainingSettings,
    PersonalisationSettings,
)
from acfnet_core.training.site_work import FinishedWork, Sent, SiteWork, begin_work

Sign = Callable[[UpdateClaim], str]
"""Signs an update's claim with the site's key; returns base64."""
Watch = Callable[[TrainingEvent], None]
"""Is told what happens while training; nothing of it leaves the site."""


@dataclass(frozen=True, kw_only=True)
class SiteAnswer:
    """A site's reply and what it sends with it, if anything, as one vector."""

    reply: RoundReply
    parameters: SentValues | None


def answer_round(
    request: RoundRequest,
    base: FlatParameters,
    cohort: PreparedCohort,
    *,
    site: str,
    device: torch.device,
    sign: Sign,
    compute: ComputeOptions | None = None,
    watch: Watch | None = None,
    runs_folder: Path | None = None,
) -> SiteAnswer:
    """Judge the global model on the site's patients and, if asked, train it further.

    Args:
        request: The server's request.
        base: What came with it: the global parameters, and with some strategies a
            second vector of their length behind them.
        cohort: The site's prepared patients, without regard to the run's landmark.
        site: This site's name.
        device: Where to compute.
        sign: Signs the claim about the trained parameters.
        compute: How the site's machine trains; plainly if not given.
        watch: Is told what happens while training.
        runs_folder: Where the site keeps a folder for each run: what some strategies
            have it remember, and its own model. Only they need it.

    Raises:
        DataError: Another contract (`data.contract_mismatch`), fewer patients than
            the contract's minimum (`data.too_few_patients`), all of them or those
            of a validation part (`data.validation_too_small`), or what the site
            remembers of the run is damaged (`data.store_damaged`).
        MachineError: The memory, a process or the disk failed.
        ProtocolError: The parameters are not the announced ones
            (`protocol.malformed`), or they fit another model or the settings are not
            those of this version (`protocol.version_mismatch`), or the update is to be
            encoded and is not finite (`protocol.update_refused`).
        ValueError: There is no `runs_folder` and the request needs one.
    """
    started = monotonic()
    # First of all: nothing later than the landmark may reach a count, figure or step.
    cohort = view_at_landmark(cohort, request.landmark_months)
    check_cohort(request, cohort)
    loss = read_section(LossConfig, request.loss)
    model, layout = build_for(request, base)
    work = begin_work(request, base, layout, site=site, runs_folder=runs_folder)
    load_arrays(model, unflatten(work.start, layout))
    round_of_site = _RoundOfSite(
        request=request,
        cohort=cohort,
        site=site,
        model=model.to(device),
        settings=read_section(LocalTrainingSettings, request.training),
        loss=loss,
        compute=compute or ComputeOptions(),
        watch=watch,
    )
    prediction = round_of_site.judge()
    initial = base[: layout.num_values]
    done = (
        round_of_site.train(work)
        if request.trains
        else round_of_site.personalise(initial, runs_folder)
    )
    return round_of_site.answer(
        prediction, done, sign=sign, seconds=monotonic() - started
    )


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What a site did on a request, and what it sends of it."""

    num_examples: int
    num_steps: int = 0
    sent: Sent | None = None
    personal: PersonalComparison | None = None


@dataclass(frozen=True, kw_only=True)
class _RoundOfSite:
    """One request at one site; the model is trained in place."""

    request: RoundRequest
    cohort: PreparedCohort
    site: str
    model: AcfNet
    settings: LocalTrainingSettings
    loss: LossConfig
    compute: ComputeOptions
    watch: Watch | None

    def judge(self) -> CohortPrediction:
        """Predict the site's patients with the model as it is."""
        size = min(LARGEST_BATCH, self.compute.physical_batch_size or LARGEST_BATCH)
        return predict_cohort(self.model, self.cohort, loss=self.loss, batch_size=size)

    def train(self, work: SiteWork) -> _Done:
        """Do the round's local work and what the strategy makes of it."""
        request, parts = self.request, self._divide()
        events = self._steps(
            parts,
            self.settings,
            seed=derive_seed(request.seed, self.site, request.round),
            part=RoundOfRun(number=request.round, num_rounds=request.num_rounds),
            change=work.change,
        )
        num_steps, learning_rates = self._count(events)
        parameters = flatten(model_arrays(self.model))
        finished = FinishedWork(parameters=parameters, learning_rates=learning_rates)
        return _Done(
            num_examples=len(parts.training.patients),
            num_steps=num_steps,
            sent=work.send(finished),
        )

    def personalise(
        self, global_parameters: FlatParameters, runs_folder: Path | None
    ) -> _Done:
        """Keep the site's own model and compare it, if there is to be one."""
        request, model = self.request, self.model
        done = _Done(num_examples=len(self.cohort.patients))
        asked = request.personalise
        if asked is None and request.local_strategy.name != "local_only":
            return done
        if runs_folder is None:
            raise ValueError("the site's own model needs a folder")
        parts = self._divide()
        if asked is not None:
            self._train_further(parts, read_section(PersonalisationSettings, asked))
        keep_own_model(
            request,
            model,
            runs_folder=runs_folder,
            supported_months=followed_months(self.cohort, model.config),
        )
        if parts.validation is None:
            return done
        own = figures_of(model, parts.validation, loss=self.loss)
        layout = layout_of(model_arrays(model))
        load_arrays(model, unflatten(global_parameters, layout))
        before = figures_of(model, parts.validation, loss=self.loss)
        return replace(done, personal=compare(before, own, parts.validation))

    def answer(
        self,
        prediction: CohortPrediction,
        done: _Done,
        *,
        sign: Sign,
        seconds: float,
    ) -> SiteAnswer:
        """Put together what leaves the site."""
        request, cohort = self.request, self.cohort
        sent = done.sent
        parameters_sha256 = None if sent is None else sent.parameters_sha256
        claim = claim_about(
            request,
            site=self.site,
            parameters_sha256=parameters_sha256,
            num_examples=done.num_examples,
            reading_sha256=cohort.reading_sha256,
        )
        minimum = cohort.contract.minimum_cell
        reply = RoundReply(
            site=self.site,
            run=request.run,
            round=request.round,
            base_sha256=request.base_sha256,
            parameters_sha256=parameters_sha256,
            compression=request.updates.compression,
            num_examples=done.num_examples,
            num_steps=done.num_steps,
            reading_sha256=cohort.reading_sha256,
            counts=cohort_counts(cohort, self.model.config),
            metrics=site_metrics(prediction, minimum_cell=minimum),
            personal=done.personal,
            seconds=seconds,
            signature=sign(claim),
        )
        return SiteAnswer(reply=reply, parameters=None if sent is None else sent.values)

    def _train_further(
        self, parts: CohortParts, settings: PersonalisationSettings
    ) -> None:
        """Train from the final global model on the site's own patients."""
        events = self._steps(
            CohortParts(training=parts.training, validation=None),
            settings.work_after(self.settings),
            seed=derive_seed(self.request.seed, self.site, "personal"),
        )
        self._count(events)

    def _divide(self) -> CohortParts:
        """Keep the validation part back: the same patients in all rounds of a run."""
        return divide_cohort(
            self.cohort,
            validation_share=self.settings.validation_share,
            seed=derive_seed(self.request.seed, self.site, "validation"),
        )

    def _steps(
        self,
        parts: CohortParts,
        settings: LocalTrainingSettings,
        *,
        seed: int,
        part: RoundOfRun | None = None,
        change: GradientChange | None = None,
    ) -> Iterator[TrainingEvent]:
        """Train the model in place."""
        # Dropout draws from torch's own generator.
        torch.manual_seed(seed)
        many = len(self.compute.devices) > 1
        return (train_in_parallel if many else train_locally)(
            self.model,
            parts.training,
            settings=settings,
            loss=self.loss,
            seed=seed,
            validation=parts.validation,
            part=part,
            compute=self.compute,
            change=change,
        )

    def _count(self, events: Iterator[TrainingEvent]) -> tuple[int, float]:
        """Work the training off and tell what happens.

        Returns:
            The optimiser's steps, and the sum of the learning rates of those that led
            to the parameters which are left: early stopping takes later ones back.
        """
        num_steps, so_far, kept, is_judged = 0, 0.0, 0.0, False
        for event in events:
            if isinstance(event, StepFinished):
                num_steps += 1
                so_far += event.learning_rate
            elif isinstance(event, PassValidated):
                is_judged = True
                kept = so_far if event.is_best else kept
            if self.watch is not None:
                self.watch(event)
        return num_steps, kept if is_judged else so_far
