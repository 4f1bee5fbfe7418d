"""Bringing a round's request to the sites over Flower, and their answers back.

One message a round and site, and another one when the first was lost. Replies are
matched with requests by message id, since Flower reports a lost node under an id of its
own. The pull loop asks often at first and backs off, so a short round costs little and
a long one no load.
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
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from numpy.typing import NDArray

from acf_server.answers import RawAnswer, failure_code
from acf_server.lean_arrays import use_lean_arrays
from acf_server.run_events import RunEvent, SiteAskedAgain, WaitingForSites
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

FIRST_POLL_S = 0.03
SLOWEST_POLL_S = 1.0
POLL_SHARE = 0.03
"""Of the time since the last answer: a short round is asked for often."""
NODES_POLL_S = 1.0
"""How often Flower is asked who is connected."""
REJOIN_S = 90.0
"""How long a round waits for a missing site when enough others have answered: Flower
may refuse a node that was killed for 60 seconds."""
LARGE_BYTES = 16 << 20
"""Answers of more than this are pulled one by one, so that memory holds one of them."""
LATENCY_S = 5.0
"""How much longer than the sites' deadline a message may be kept."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
PASSING = frozenset(
    {
        "protocol.flower_failed",
        "protocol.trainer_unreachable",
        "machine.process_died",
        "machine.disk_full",
    }
)
"""Failures that may pass by themselves: the site is asked again in the same round."""
_FORMS = ("<f4", "|u1")
"""Of a vector: parameters as they are, or an encoded update."""
_HEADER_BYTES = 128
"""Of such a vector as numpy saves it, whatever its length."""


use_lean_arrays()
# Flower waits a second before it asks again for a part of an answer that a site is
# still sending; a short round often meets that.
(pull_objects.__kwdefaults__ or {}).update(
    initial_backoff=FIRST_POLL_S,
    backoff_cap=SLOWEST_POLL_S,
    max_tries_per_object=None,
)


@dataclass(frozen=True)
class FlowerExchange:
    """Sends requests to a run's sites by name and yields what comes back.

    A site that fails in a way that may pass, that is cut off, or that connects late is
    asked again until it answers or the round is closed. A round is closed when every
    site has answered, when `timeout_s` is over, or when enough have answered and the
    others have been away for `REJOIN_S`.

    Args:
        grid: Flower's view of the connected nodes.
        sites: Names of the roster.
        minimum_sites: Answers that are enough to close a round without the missing.
        timeout_s: Longest duration of a round.
        announce: Takes an event when sites are missing, or one is asked again.
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
        needed = self.minimum_sites if request.trains else 1
        return _Round(
            self,
            _content(request.model_dump_json(), base),
            needed=needed,
            round_number=request.round,
        ).answers()

    def ask(self, document: str) -> Iterator[RawAnswer]:
        """Bring a document to every site before the first round."""
        return _Round(
            self, _content(document), needed=self.minimum_sites, round_number=0
        ).answers()


@dataclass
class _Asked:
    """How far one site has come in a round.

    Attributes:
        message_id: Of the request that is waited for; None while there is none.
        session: When the node had connected as it was asked. Another time now means
            that the request may have been lost with the earlier connection.
        last_code: The failure after which it is to be asked again.
    """

    message_id: str | None = None
    session: str = ""
    num_failures: int = 0
    due: float = 0.0
    away_since: float | None = None
    last_code: str | None = None


class _Round:
    """One exchange: who was asked, who is waited for."""

    def __init__(
        self,
        exchange: FlowerExchange,
        content: RecordDict,
        *,
        needed: int,
        round_number: int,
    ) -> None:
        self._exchange, self._grid = exchange, exchange.grid
        self._content, self._round_number = content, round_number
        self._needed = needed
        records = content.array_records.values()
        sizes = [len(array.data) for arrays in records for array in arrays.values()]
        self._is_large = sum(sizes) > LARGE_BYTES
        self._started = self._last_answer = monotonic()
        self._open = {site: _Asked(away_since=self._started) for site in exchange.sites}
        self._nodes_asked = 0.0
        self._told: tuple[str, ...] = ()

    def answers(self) -> Iterator[RawAnswer]:
        """Yield every site's answer as it comes, and at last who gave none."""
        while self._open and not self._is_closed():
            self._look_for_sites()
            answered = list(self._pull())
            yield from answered
            if answered:
                self._last_answer = monotonic()
            elif self._open:
                idle_s = monotonic() - self._last_answer
                sleep(max(FIRST_POLL_S, min(POLL_SHARE * idle_s, SLOWEST_POLL_S)))
        for site, asked in self._open.items():
            code = asked.last_code or "protocol.site_timeout"
            yield RawAnswer(site=site, seconds=self._seconds(), code=code)

    def _is_closed(self) -> bool:
        if self._seconds() > self._exchange.timeout_s:
            return True
        if len(self._exchange.sites) - len(self._open) < self._needed:
            return False
        return all(
            asked.away_since is not None and monotonic() - asked.away_since > REJOIN_S
            for asked in self._open.values()
        )

    def _look_for_sites(self) -> None:
        """Ask every connected site that is not waited for, when it is due."""
        now = monotonic()
        if now - self._nodes_asked < NODES_POLL_S:
            return
        self._nodes_asked = now
        nodes = {
            node.name: node
            for node in self._grid.get_nodes()
            if node.status == "online" and node.name in self._open
        }
        to_ask: dict[str, int] = {}
        for site, asked in self._open.items():
            node = nodes.get(site)
            if node is None:
                asked.away_since = asked.away_since or now
                continue
            asked.away_since = None
            if asked.message_id is not None and asked.session != node.last_activated_at:
                self._ask_again(site, "protocol.flower_failed")
            if asked.message_id is None and now >= asked.due:
                asked.session = node.last_activated_at
                to_ask[site] = node.node_id
        self._tell_missing(tuple(sorted(set(self._open) - set(nodes))))
        if to_ask:
            self._send(to_ask)

    def _tell_missing(self, missing: tuple[str, ...]) -> None:
        if missing != self._told:
            self._exchange.announce(WaitingForSites(missing=missing))
        self._told = missing

    def _send(self, nodes: dict[str, int]) -> None:
        """Push one message to each node; Flower gives no id for one it did not take."""
        messages = [
            Message(
                content=self._content,
                dst_node_id=node_id,
                message_type="train",
                ttl=self._exchange.timeout_s + LATENCY_S,
                group_id=str(self._round_number),
            )
            for node_id in nodes.values()
        ]
        taken = self._grid.push_messages(messages)
        for site, message_id in zip_longest(nodes, taken):
            if message_id:
                self._open[site].message_id = message_id
            else:
                self._ask_again(site, "protocol.flower_failed")

    def _pull(self) -> Iterator[RawAnswer]:
        """Yield the answers that have come; a failure that may pass is none."""
        waiting = {
            asked.message_id: site
            for site, asked in self._open.items()
            if asked.message_id is not None
        }
        if not waiting:
            return
        for message in self._messages(list(waiting)):
            site = waiting.pop(message.metadata.reply_to_message_id, None)
            if site is None:
                continue
            answer = read_answer(message, site, seconds=self._seconds())
            code = failure_code(answer)
            if code in PASSING:
                self._ask_again(site, code)
            else:
                del self._open[site]
                yield answer

    def _messages(self, message_ids: list[str]) -> Iterator[Message]:
        """Pull what has come: large answers one by one, small ones together."""
        if not self._is_large:
            yield from self._grid.pull_messages(message_ids)
            return
        for message_id in message_ids:
            yield from self._grid.pull_messages([message_id])

    def _ask_again(self, site: str, code: str) -> None:
        """Forget the request and plan another one after a pause."""
        asked = self._open[site]
        asked.message_id, asked.last_code = None, code
        pause_s = min(FIRST_PAUSE_S * 2**asked.num_failures, LONGEST_PAUSE_S)
        asked.num_failures += 1
        asked.due = monotonic() + pause_s
        self._exchange.announce(
            SiteAskedAgain(
                round=self._round_number, site=site, code=code, pause_s=pause_s
            )
        )

    def _seconds(self) -> float:
        return monotonic() - self._started


def _content(document: str, parameters: FlatParameters | None = None) -> RecordDict:
    content = RecordDict({REQUEST: ConfigRecord({DOCUMENT: document})})
    if parameters is not None:
        content[PARAMETERS] = ArrayRecord({PARAMETERS: Array(parameters)})
    return content


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


def _vector(array: Array) -> NDArray[np.generic] | None:
    """Read a vector of `_FORMS` exactly as `Array` writes it; None for other bytes.

    A site decides these bytes. `Array.numpy` would hand them to `np.load`, which knows
    more formats and fails in more ways than a run should depend on.
    """
    for descr in _FORMS:
        size = np.dtype(descr).itemsize
        num_values, rest = divmod(len(array.data) - _HEADER_BYTES, size)
        if num_values < 0 or rest:
            continue
        header = BytesIO()
        form = {"descr": descr, "fortran_order": False, "shape": (num_values,)}
        np.lib.format.write_array_header_1_0(header, form)
        if array.data[:_HEADER_BYTES] == header.getvalue():
            return np.frombuffer(array.data, dtype=descr, offset=_HEADER_BYTES)
    return None


def _document(content: RecordDict, kind: str) -> str | None:
    record = content.config_records.get(kind)
    found = None if record is None else record.get(DOCUMENT)
    return found if isinstance(found, str) else None
