"""What comes back from a site in a round: as it came, and as it was checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from numpy import generic
from numpy.typing import NDArray

from acfnet_core.errors import ProtocolError
from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.messages import RoundReply, RoundRequest, parse_failure
from acfnet_core.federation.parameters import FlatParameters


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """What came from a site, unchecked: a reply, a failure, or a code of our own."""

    site: str
    seconds: float
    reply: str | None = None
    failure: str | None = None
    code: str | None = None
    """Set when no answer came: why."""
    parameters: NDArray[generic] | None = None
    """What came beside the reply: float32 as it is, or an encoded update in uint8."""


Exchange = Callable[[RoundRequest, FlatParameters], Iterator[RawAnswer]]
"""Sends a round's request to every site of the roster; yields one answer for each."""


@dataclass(frozen=True, kw_only=True)
class CheckedAnswer:
    """A site's admitted reply and, if it trained, its update."""

    reply: RoundReply
    update: AdmittedUpdate | None
    num_bytes: int = 0
    """Of the parameters that came with it."""


def failure_code(raw: RawAnswer) -> str | None:
    """Return why there is no reply; what cannot be read has a code as well."""
    if raw.code is not None or raw.reply is not None:
        return raw.code
    try:
        return parse_failure(raw.failure or "").code
    except ProtocolError as error:
        return error.code
