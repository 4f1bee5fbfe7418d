"""Keeping rounds.json and sites.json of a run up to date as answers come in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acf_server.run_files import (
    ROUNDS_FILE,
    SITES_FILE,
    RoundRecord,
    RoundRecords,
    SiteRecord,
    SiteRecords,
    SiteRound,
    write_record,
)
from acfnet_core.federation.messages import CohortCounts, RoundReply


@dataclass
class _Cost:
    """What the exchange of one round cost, and who answered."""

    seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    update_norm: float | None = None
    answers: dict[str, tuple[float, str | None]] = field(default_factory=dict)


class RoundBook:
    """The records of a run's rounds and sites.

    The exchange of round r brings the sites' judgement of the model after round r - 1,
    and costs what is recorded under r.

    Args:
        run_folder: Where the records are written.
        sites: Names of the roster.
    """

    def __init__(self, run_folder: Path, sites: Sequence[str]) -> None:
        self._run_folder = run_folder
        self._sites = tuple(sites)
        self._costs: dict[int, _Cost] = {}
        self._records: list[RoundRecord] = []
        self._counts: dict[str, CohortCounts] = {}
        self._mappings: dict[str, str | None] = {}
        self._answered: Counter[str] = Counter()
        self._failed: dict[str, Counter[str]] = {site: Counter() for site in sites}

    def note_answer(
        self, round_number: int, site: str, *, seconds: float, code: str | None
    ) -> None:
        """Note that a site's reply was admitted, or the code of why there is none."""
        self._cost(round_number).answers[site] = (seconds, code)
        if code is None:
            self._answered[site] += 1
        else:
            self._failed[site][code] += 1

    def note_cost(
        self, round_number: int, *, seconds: float, bytes_sent: int, bytes_received: int
    ) -> None:
        """Note what the exchange of a round cost."""
        cost = self._cost(round_number)
        cost.seconds, cost.bytes_sent = seconds, bytes_sent
        cost.bytes_received = bytes_received

    def note_update(self, round_number: int, update_norm: float) -> None:
        """Note how far a round moved the global model."""
        self._cost(round_number).update_norm = update_norm

    def note_judgement(
        self, model_round: int, replies: Sequence[RoundReply]
    ) -> RoundRecord:
        """Record how the model after `model_round` does at the sites; write the files.

        Means are over patients, of the sites that may tell the figure.
        """
        for reply in replies:
            self._counts[reply.site] = reply.counts
            self._mappings[reply.site] = reply.mapping_sha256
        losses = _figures(replies, "loss")
        concordances = _figures(replies, "harrell_c")
        worst_loss = max(losses, key=lambda f: f[1], default=None)
        worst_c = min(concordances, key=lambda f: f[1], default=None)
        cost = self._cost(model_round)
        record = RoundRecord(
            round=model_round,
            mean_loss=_mean(losses),
            worst_loss=worst_loss[1] if worst_loss else None,
            worst_loss_site=worst_loss[0] if worst_loss else None,
            mean_c=_mean(concordances),
            worst_c=worst_c[1] if worst_c else None,
            worst_c_site=worst_c[0] if worst_c else None,
            num_patients=sum(figure[2] for figure in losses) or None,
            num_patients_c=sum(figure[2] for figure in concordances) or None,
            seconds=cost.seconds,
            bytes_sent=cost.bytes_sent,
            bytes_received=cost.bytes_received,
            sites=self._site_rounds(cost, replies),
            update_norm=cost.update_norm,
        )
        self._records.append(record)
        self._write()
        return record

    def followed_months(self) -> float | None:
        """Return the longest time that a site followed enough of its patients for.

        None where no site has told one.
        """
        told = [counts.followed_months for counts in self._counts.values()]
        return max((months for months in told if months is not None), default=None)

    def _site_rounds(
        self, cost: _Cost, replies: Sequence[RoundReply]
    ) -> list[SiteRound]:
        metrics = {reply.site: reply.metrics for reply in replies}
        rows = []
        for site in self._sites:
            seconds, code = cost.answers.get(site, (0.0, None))
            judged = metrics.get(site)
            rows.append(
                SiteRound(
                    name=site,
                    loss=judged.loss if judged else None,
                    harrell_c=judged.harrell_c if judged else None,
                    num_patients=judged.num_patients if judged else None,
                    seconds=seconds,
                    code=code,
                )
            )
        return rows

    def _cost(self, round_number: int) -> _Cost:
        return self._costs.setdefault(round_number, _Cost())

    def _write(self) -> None:
        folder = self._run_folder
        write_record(folder / ROUNDS_FILE, RoundRecords(list(self._records)))
        write_record(folder / SITES_FILE, SiteRecords(self._site_records()))

    def _site_records(self) -> list[SiteRecord]:
        unknown = CohortCounts(
            num_patients=None,
            num_events=None,
            num_with_scans=None,
            num_scans=None,
            followed_months=None,
        )
        return [
            SiteRecord(
                name=site,
                **self._counts.get(site, unknown).model_dump(),
                mapping_sha256=self._mappings.get(site),
                rounds_answered=self._answered[site],
                rounds_failed=dict(self._failed[site]),
            )
            for site in self._sites
        ]


def _figures(replies: Sequence[RoundReply], name: str) -> list[tuple[str, float, int]]:
    """Return (site, figure, patients) of the sites that tell the figure."""
    figures = []
    for reply in sorted(replies, key=lambda r: r.site):
        value = getattr(reply.metrics, name)
        if value is not None and reply.metrics.num_patients is not None:
            figures.append((reply.site, float(value), reply.metrics.num_patients))
    return figures


def _mean(figures: Sequence[tuple[str, float, int]]) -> float | None:
    total = sum(weight for _, _, weight in figures)
    if not total:
        return None
    return sum(value * weight for _, value, weight in figures) / total
