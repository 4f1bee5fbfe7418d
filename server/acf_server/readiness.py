"""Who is ready for a run, told before its first round."""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from acf_server.answers import RawAnswer, failure_code
from acf_server.run_events import ReadinessChecked, RunEvent, SiteReadiness
from acf_server.run_plan import RunPlan
from acfnet_core import __version__
from acfnet_core.errors import CATALOGUE, ProtocolError
from acfnet_core.federation.readiness import (
    Readiness,
    ReadinessRequest,
    parse_readiness,
)


@runtime_checkable
class Asks(Protocol):
    """An exchange that can bring a document alone."""

    def ask(self, document: str) -> Iterator[RawAnswer]:
        """Bring a document to every site; yield one answer for each."""


def check_readiness(
    plan: RunPlan,
    exchange: Asks,
    announce: Callable[[RunEvent], None],
    *,
    num_values: int,
) -> None:
    """Ask every site whether it is ready, tell it, and go on if enough are.

    Raises:
        ProtocolError: `protocol.sites_not_ready`, with what is missing where.
    """
    request = ReadinessRequest(
        run=plan.run,
        contract_sha256=plan.contract_sha256,
        version=__version__,
        num_values=num_values,
    )
    answers = exchange.ask(request.model_dump_json())
    sites = sorted((_judge(raw, request) for raw in answers), key=lambda s: s.site)
    announce(ReadinessChecked(sites=tuple(sites)))
    ready = [site for site in sites if not site.codes]
    if len(ready) >= plan.minimum_sites:
        return
    missing = "; ".join(
        f"{site.site}: {', '.join(_explain(code) for code in site.codes)}"
        for site in sites
        if site.codes
    )
    raise ProtocolError(
        "protocol.sites_not_ready",
        f"{len(ready)} of {len(sites)} sites are ready; the run needs "
        f"{plan.minimum_sites}. {missing}",
        remedy="Have the sites mend this, then: acf-server run resume "
        f"{plan.run}; or lower run.minimum_sites in a new run.",
    )


def _judge(raw: RawAnswer, request: ReadinessRequest) -> SiteReadiness:
    """Return what a site's answer means; no answer is one as well."""
    code = failure_code(raw)
    if code is not None or raw.reply is None:
        return SiteReadiness(site=raw.site, codes=(code or "protocol.malformed",))
    try:
        told = parse_readiness(raw.reply)
    except ProtocolError as error:
        return SiteReadiness(site=raw.site, codes=(error.code,))
    if (told.site, told.run) != (raw.site, request.run):
        return SiteReadiness(site=raw.site, codes=("protocol.malformed",))
    return _told(told, request)


def _told(told: Readiness, request: ReadinessRequest) -> SiteReadiness:
    codes = told.known_codes
    if told.version != request.version:
        codes = ("protocol.version_mismatch", *codes)
    return SiteReadiness(
        site=told.site,
        codes=codes,
        version=told.version,
        device=told.device,
        free_disk_gib=told.free_disk_gib,
        free_memory_gib=told.free_memory_gib,
    )


def _explain(code: str) -> str:
    return f"{CATALOGUE[code].meaning} ({code})"
