"""The site's resident trainer: keeps torch and the data, answers one round at a time.

`acf-client start` runs it as a process of its own: `python -m acf_client.trainer SITE`.
It ends when the process that started it ends. Its log holds codes and counts, never a
patient's value or the text of an exception.
"""

import base64
import hashlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric import ec

from acf_client.enrolment import require_enrolment
from acf_client.settings import ComputeConfig
from acf_client.site import Site, open_site
from acf_client.trainer_link import (
    Frame,
    check_peer,
    listen,
    receive_frame,
    send_frame,
)
from acfnet_core import __version__
from acfnet_core.cohort.contract import load_contract
from acfnet_core.cohort.prepared.store import PreparedCohort, open_store
from acfnet_core.cohort.sources import sources_of
from acfnet_core.edge import describe_place, end_on_signals
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.messages import (
    FAILURE,
    REPLY,
    RoundRequest,
    SiteFailure,
    parse_request,
)
from acfnet_core.federation.readiness import (
    Readiness,
    ReadinessRequest,
    free_disk_bytes,
    free_memory_bytes,
    machine_codes,
    parse_readiness_request,
    rounded_gib,
)
from acfnet_core.identity.envelope import UpdateClaim, sign_update
from acfnet_core.identity.keys import load_key
from acfnet_core.training.compute import ComputeOptions, refuse_unsound
from acfnet_core.training.device import choose_device
from acfnet_core.training.local_training import TrainingEvent
from acfnet_core.training.logical_step import PhysicalBatchReduced
from acfnet_core.training.reproducibility import make_deterministic
from acfnet_core.training.site_round import answer_round

logger = logging.getLogger(__name__)

READY_LINE = "The trainer is ready."
_PARENT_CHECK_S = 1.0


@dataclass
class LastAnswer:
    """The answer to the last request: one that comes again gets the same, signed once.

    A request comes again when the server was killed after it had asked.
    """

    request_sha256: str = ""
    frame: Frame | None = None


@dataclass(frozen=True)
class Trainer:
    """What the trainer keeps between rounds."""

    site: Site
    name: str
    cohort: PreparedCohort
    device: torch.device
    key: ec.EllipticCurvePrivateKey
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    last: LastAnswer = field(default_factory=LastAnswer)

    def answer(self, request: Frame) -> Frame:
        """Do a round's work and say what happened, in the form that may leave."""
        try:
            return self._work(request)
        except AcfnetError as error:
            logger.error("Refused: %s: %s", error.code, error.message)  # noqa: TRY400
            return _failure(error.code)
        except Exception as error:
            # The edge of the process. The text of the exception may quote a value of a
            # patient, so the log gets its type and where it arose.
            logger.error("Failed: %s", describe_place(error))  # noqa: TRY400
            return _failure("protocol.site_failed")

    def _work(self, request: Frame) -> Frame:
        if request.parameters is None:
            return self._tell_readiness(request.document)
        wanted = parse_request(request.document)
        asked = hashlib.sha256(request.document.encode())
        asked.update(request.parameters.data)
        if self.last.request_sha256 == asked.hexdigest() and self.last.frame:
            self._note(wanted, "answer_sent_again")
            return self.last.frame
        answer = answer_round(
            wanted,
            request.parameters,
            self.cohort,
            site=self.name,
            device=self.device,
            sign=self._sign,
            compute=self.compute,
            watch=_log_event,
            runs_folder=self.site.runs_folder,
        )
        reply = answer.reply
        self._note(
            wanted,
            "update_sent" if wanted.trains else "metrics_sent",
            parameters_sha256=reply.parameters_sha256 or "",
        )
        logger.info("%d steps in %.1f s", reply.num_steps, reply.seconds)
        frame = Frame(REPLY, reply.model_dump_json(), answer.parameters)
        self.last.request_sha256, self.last.frame = asked.hexdigest(), frame
        return frame

    def _tell_readiness(self, document: str) -> Frame:
        asked = parse_readiness_request(document)
        told = self._readiness(asked)
        self.site.audit.append(
            "readiness_sent", run=asked.run, codes=" ".join(told.codes)
        )
        logger.info("Run %s: %s", asked.run, " ".join(told.codes) or "ready")
        return Frame(REPLY, told.model_dump_json())

    def _readiness(self, asked: ReadinessRequest) -> Readiness:
        contract = self.cohort.contract
        disk, memory = free_disk_bytes(self.site.folder), free_memory_bytes()
        codes = []
        if contract.sha256() != asked.contract_sha256:
            codes.append("data.contract_mismatch")
        if len(self.cohort.patients) < contract.fewest_patients:
            codes.append("data.too_few_patients")
        codes += machine_codes(asked, free_disk_bytes=disk, free_memory_bytes=memory)
        return Readiness.model_validate(
            {
                "site": self.name,
                "run": asked.run,
                "version": __version__,
                "device": self.device.type,
                "free_disk_gib": rounded_gib(disk),
                "free_memory_gib": rounded_gib(memory),
                "codes": tuple(codes),
            }
        )

    def _note(self, request: RoundRequest, event: str, **fields: str) -> None:
        self.site.audit.append(
            event,
            run=request.run,
            round=request.round,
            base_sha256=request.base_sha256,
            **fields,
        )
        logger.info(
            "Run %s, round %d of %d: %s",
            request.run,
            request.round,
            request.num_rounds,
            event,
        )

    def _sign(self, claim: UpdateClaim) -> str:
        return base64.b64encode(sign_update(self.key, claim)).decode()


def load_trainer(site: Site) -> Trainer:
    """Open everything that the trainer keeps.

    Raises:
        AcfnetError: The site is not enrolled, or its data not prepared.
    """
    enrolment = require_enrolment(site)
    contract = load_contract(site.contract_path)
    asked = site.config.compute
    compute = compute_options(asked)
    device = compute.devices[0] if compute.devices else choose_device(asked.device)
    refuse_unsound(compute, device)
    return Trainer(
        site=site,
        name=enrolment.site,
        cohort=open_store(
            site.prepared_folder,
            contract=contract,
            reading_sha256=sources_of(site.config.data, site.folder).reading_sha256(),
        ),
        device=device,
        compute=compute,
        key=load_key(site.key_path),
    )


def compute_options(asked: ComputeConfig) -> ComputeOptions:
    """Return what site.toml asks of the machine.

    Raises:
        ConfigError: One of several devices is not there.
    """
    return ComputeOptions(
        precision=asked.precision,
        channels_last=asked.channels_last,
        compile=asked.compile,
        checkpointing=asked.checkpointing,
        physical_batch_size=asked.physical_batch_size,
        devices=tuple(
            choose_device(name, setting="compute.devices") for name in asked.devices
        ),
    )


def _log_event(event: TrainingEvent) -> None:
    """Tell the operator of what a setting could spare the next time."""
    if isinstance(event, PhysicalBatchReduced):
        logger.warning(
            "Out of memory: %d patients at once instead of %d, with the same result. "
            "compute.physical_batch_size = %d in site.toml saves the attempts.",
            event.after,
            event.before,
            event.after,
        )


def serve(
    trainer: Trainer, listener: socket.socket, *, go_on: Callable[[], bool]
) -> None:
    """Answer one request after the other for as long as `go_on` says so."""
    listener.settimeout(_PARENT_CHECK_S)
    while go_on():
        try:
            link, _ = listener.accept()
        except TimeoutError:
            continue
        with link:
            link.settimeout(None)
            try:
                check_peer(link)
                send_frame(link, trainer.answer(receive_frame(link)))
            except (OSError, ProtocolError) as error:
                logger.warning("A request broke off: %s", type(error).__name__)


def main() -> None:
    """Serve the site whose folder is the first argument, until the parent ends."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    site = open_site(Path(sys.argv[1]))
    make_deterministic(num_threads=site.config.compute.num_threads)
    parent = os.getppid()
    end_on_signals()
    try:
        trainer = load_trainer(site)
    except AcfnetError as error:
        logger.error("%s: %s", error.code, error.message)  # noqa: TRY400
        raise SystemExit(error.exit_status) from error
    site.make_socket_folder()
    site.trainer_socket.unlink(missing_ok=True)
    with listen(site.trainer_socket) as listener:
        logger.info("%s %d patients.", READY_LINE, len(trainer.cohort.patients))
        serve(trainer, listener, go_on=lambda: os.getppid() == parent)


def _failure(code: str) -> Frame:
    return Frame(FAILURE, SiteFailure(code=code).model_dump_json())


if __name__ == "__main__":
    main()
