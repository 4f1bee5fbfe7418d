"""Bringing a round's request to the sites over Flower, and their answers back.

One message a round and site. Replies are matched with requests by message id, since
Flower reports a lost node under an id of its own. The pull loop asks often at first and
backs off, so a short round costs little and a long one no load.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from time import monotonic, sleep

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from acf_server.round_loop import RawAnswer
from acf_server.run_events import RunEvent, WaitingForSites
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import (
    DOCUMENT,
    FAILURE,
    PARAMETERS,
    REPLY,
    REQUEST,
    RoundRequest,
)
from acfnet_core.federation.parameters import FlatParameters

logger = logging.getLogger(__name__)

FIRST_POLL_S = 0.1
SLOWEST_POLL_S = 2.0
POLL_GROWTH = 1.15
_VALUE_BYTES = 4
_HEADER_BYTES = 128
"""Of a float32 vector as numpy saves it, whatever its length."""
REJOIN_S = 90.0
"""How long a round waits for a missing site while enough others are connected: Flower
refuses a node that was killed for 60 seconds."""
LATENCY_S = 5.0
"""How much longer than the sites' deadline a message may be kept."""


@dataclass(frozen=True)
class FlowerExchange:
    """Sends requests to a run's sites by name and yields what comes back.

    Args:
        grid: Flower's view of the connected nodes.
        sites: Names of the roster.
        minimum_sites: A round begins without the missing when `timeout_s` is over and
            this many are connected.
        timeout_s: Longest wait for all to be connected, and again for answers.
        announce: Takes an event while the run waits for sites.
    """

    grid: Grid
    sites: Sequence[str]
    minimum_sites: int
    timeout_s: float
    announce: Callable[[RunEvent], None]

    def __call__(
        self, request: RoundRequest, base: FlatParameters
    ) -> Iterator[RawAnswer]:
        """Exchange one round: one answer for each site of the roster."""
        # Without training the last model is judged: by whoever is still there.
        nodes = self._wait_for_sites(self.minimum_sites if request.trains else 1)
        for site in self.sites:
            if site not in nodes:
                yield RawAnswer(site=site, seconds=0.0, code="protocol.site_timeout")
        waiting, unsent = self._send(request, base, nodes)
        for site in unsent:
            yield RawAnswer(site=site, seconds=0.0, code="protocol.flower_failed")
        yield from self._pull(waiting)

    def _pull(self, waiting: dict[str, str]) -> Iterator[RawAnswer]:
        """Yield an answer for each awaited message id: what came, or a timeout."""
        started = monotonic()
        pause_s = FIRST_POLL_S
        while waiting and monotonic() - started < self.timeout_s:
            replies = list(self.grid.pull_messages(list(waiting)))
            for message in replies:
                request_id = message.metadata.reply_to_message_id
                if request_id in waiting:
                    site = waiting.pop(request_id)
                    yield read_answer(message, site, seconds=monotonic() - started)
            if not replies:
                sleep(pause_s)
                pause_s = min(pause_s * POLL_GROWTH, SLOWEST_POLL_S)
        for site in waiting.values():
            yield RawAnswer(
                site=site, seconds=monotonic() - started, code="protocol.site_timeout"
            )

    def _send(
        self, request: RoundRequest, base: FlatParameters, nodes: dict[str, int]
    ) -> tuple[dict[str, str], list[str]]:
        """Push one message to each node.

        Returns:
            Message ids with their sites, and the sites that Flower sent nothing to: it
            gives no id for one message, or none at all when they are too large.
        """
        document = request.model_dump_json()
        messages, names = [], []
        for site, node_id in nodes.items():
            content = RecordDict(
                {
                    REQUEST: ConfigRecord({DOCUMENT: document}),
                    PARAMETERS: ArrayRecord({PARAMETERS: Array(base)}),
                }
            )
            messages.append(
                Message(
                    content=content,
                    dst_node_id=node_id,
                    message_type="train",
                    ttl=self.timeout_s + LATENCY_S,
                    group_id=str(request.round),
                )
            )
            names.append(site)
        pairs = list(zip_longest(names, self.grid.push_messages(messages)))
        unsent = [site for site, message_id in pairs if not message_id]
        return {message_id: site for site, message_id in pairs if message_id}, unsent

    def _wait_for_sites(self, needed: int) -> dict[str, int]:
        """Wait until every site is connected, or for a while until enough are.

        Raises:
            ProtocolError: `protocol.too_few_sites`.
        """
        started = monotonic()
        told: tuple[str, ...] = ()
        while True:
            nodes = {
                node.name: node.node_id
                for node in self.grid.get_nodes()
                if node.status == "online" and node.name in self.sites
            }
            missing = tuple(sorted(set(self.sites) - set(nodes)))
            if not missing:
                return nodes
            waited_s = monotonic() - started
            if waited_s > REJOIN_S and len(nodes) >= needed:
                return nodes
            if waited_s > self.timeout_s:
                break
            if missing != told:
                self.announce(WaitingForSites(missing=missing))
                told = missing
            sleep(SLOWEST_POLL_S)
        if len(nodes) >= needed:
            return nodes
        raise ProtocolError(
            "protocol.too_few_sites",
            f"{len(nodes)} of {len(self.sites)} sites are connected after "
            f"{self.timeout_s:.0f} s; the run needs {needed}. "
            f"Missing: {', '.join(missing)}.",
            remedy="Ask the missing sites to run `acf-client start`; start again.",
        )


def read_answer(message: Message, site: str, *, seconds: float) -> RawAnswer:
    """Take the parts of a Flower message that we look at, and no others."""
    if message.has_error():
        logger.warning("%s: Flower reports error %d", site, message.error.code)
        return RawAnswer(site=site, seconds=seconds, code="protocol.flower_failed")
    content = message.content
    arrays = content.array_records.get(PARAMETERS)
    parameters = None if arrays is None else arrays.get(PARAMETERS)
    return RawAnswer(
        site=site,
        seconds=seconds,
        reply=_document(content, REPLY),
        failure=_document(content, FAILURE),
        parameters=None if parameters is None else _vector(parameters),
    )


def _vector(array: Array) -> NDArray[np.float32] | None:
    """Read a float32 vector exactly as `Array` writes it; None for all other bytes.

    A site decides these bytes. `Array.numpy` would hand them to `np.load`, which knows
    more formats and fails in more ways than a run should depend on.
    """
    num_values, rest = divmod(len(array.data) - _HEADER_BYTES, _VALUE_BYTES)
    if num_values < 0 or rest:
        return None
    header = BytesIO()
    form = {"descr": "<f4", "fortran_order": False, "shape": (num_values,)}
    np.lib.format.write_array_header_1_0(header, form)
    if array.data[:_HEADER_BYTES] != header.getvalue():
        return None
    return np.frombuffer(array.data, dtype="<f4", offset=_HEADER_BYTES)


def _document(content: RecordDict, kind: str) -> str | None:
    record = content.config_records.get(kind)
    found = None if record is None else record.get(DOCUMENT)
    return found if isinstance(found, str) else None
