"""Keeping rounds.json and sites.json of a run up to date as answers come in.

The two files are all that is remembered: a run that is taken up again reads them, and a
round that is repeated replaces what stood there of it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from acf_server.run_files import (
    ROUNDS_FILE,
    SITES_FILE,
    RoundPhases,
    RoundRecord,
    RoundRecords,
    SiteRecord,
    SiteRecords,
    SiteRound,
    read_rounds,
    read_sites,
    write_record,
)
from acf_server.run_plan import SelectBy
from acfnet_core.federation.messages import CohortCounts, RoundReply

_UNKNOWN = CohortCounts(
    num_patients=None,
    num_events=None,
    num_with_scans=None,
    num_scans=None,
    followed_months=None,
)


class RoundBook:
    """The records of a run's rounds and sites.

    The exchange of round r brings the sites' judgement of the model after round r - 1,
    and costs what is recorded under r.

    Args:
        run_folder: Where the records are written, and what is there is read from.
        sites: Names of the roster.
        num_rounds: Rounds that train; the one after them only judges and is no record.
        last_round: The last round that is complete; what stands there of later ones is
            forgotten.
    """

    def __init__(
        self,
        run_folder: Path,
        sites: Sequence[str],
        *,
        num_rounds: int,
        last_round: int = 0,
    ) -> None:
        self._run_folder = run_folder
        self._sites = tuple(sites)
        self._num_rounds = num_rounds
        self._rounds = {
            record.round: record
            for record in read_rounds(run_folder)
            if record.round <= last_round
        }
        self._told = {site.name: site for site in read_sites(run_folder)}

    def note_answer(
        self,
        round_number: int,
        site: str,
        *,
        seconds: float,
        computing_seconds: float | None,
        code: str | None,
    ) -> None:
        """Note that a site's reply was admitted, or the code of why there is none."""
        record = self._round(round_number)
        answer = {
            "seconds": seconds,
            "computing_seconds": computing_seconds,
            "code": code,
            "asked": True,
        }
        sites = [
            row.model_copy(update=answer) if row.name == site else row
            for row in record.sites
        ]
        self._rounds[round_number] = record.model_copy(update={"sites": sites})

    def note_cost(
        self, round_number: int, *, seconds: float, bytes_sent: int, bytes_received: int
    ) -> None:
        """Note what the exchange of a round cost."""
        self._change(
            round_number,
            seconds=seconds,
            bytes_sent=bytes_sent,
            bytes_received=bytes_received,
        )

    def note_phases(self, round_number: int, phases: RoundPhases) -> RoundRecord:
        """Note that a round is complete; the next writing of the files tells it."""
        self._change(round_number, seconds=phases.total, phases=phases)
        return self._round(round_number)

    def note_update(self, round_number: int, update_norm: float) -> None:
        """Note how far a round moved the global model; write the files."""
        self._change(round_number, update_norm=update_norm)
        self._write()

    def note_judgement(
        self, model_round: int, replies: Sequence[RoundReply]
    ) -> RoundRecord:
        """Record how the model after `model_round` does at the sites; write the files.

        Means are over patients, of the sites that may tell the figure.
        """
        for reply in replies:
            told: dict[str, object] = {
                **reply.counts.model_dump(),
                "reading_sha256": reply.reading_sha256,
                "personal": reply.personal,
            }
            self._told[reply.site] = self._site(reply.site).model_copy(update=told)
        losses = _figures(replies, "loss")
        concordances = _figures(replies, "harrell_c")
        worst_loss = max(losses, key=lambda f: f[1], default=None)
        worst_c = min(concordances, key=lambda f: f[1], default=None)
        self._change(
            model_round,
            mean_loss=_mean(losses),
            worst_loss=worst_loss[1] if worst_loss else None,
            worst_loss_site=worst_loss[0] if worst_loss else None,
            mean_c=_mean(concordances),
            worst_c=worst_c[1] if worst_c else None,
            worst_c_site=worst_c[0] if worst_c else None,
            num_patients=sum(figure[2] for figure in losses) or None,
            num_patients_c=sum(figure[2] for figure in concordances) or None,
            sites=self._judged(self._round(model_round), replies),
        )
        self._write()
        return self._rounds[model_round]

    def round(self, number: int) -> RoundRecord:
        """Return what is known of a round."""
        return self._round(number)

    def records(self) -> list[RoundRecord]:
        """Return what each round gave, in their order."""
        numbers = [n for n in sorted(self._rounds) if n <= self._num_rounds]
        return [self._rounds[number] for number in numbers]

    def followed_months(self) -> float | None:
        """Return the longest time that a site followed enough of its patients for.

        None where no site has told one.
        """
        told = [site.followed_months for site in self._told.values()]
        return max((months for months in told if months is not None), default=None)

    @staticmethod
    def _judged(record: RoundRecord, replies: Sequence[RoundReply]) -> list[SiteRound]:
        metrics = {reply.site: reply.metrics for reply in replies}
        rows = []
        for row in record.sites:
            judged = metrics.get(row.name)
            figures = {
                "loss": judged.loss if judged else None,
                "harrell_c": judged.harrell_c if judged else None,
                "num_patients": judged.num_patients if judged else None,
            }
            rows.append(row.model_copy(update=figures))
        return rows

    def _round(self, number: int) -> RoundRecord:
        return self._rounds.setdefault(
            number,
            RoundRecord(
                round=number,
                sites=[SiteRound(name=site) for site in self._sites],
            ),
        )

    def _change(self, number: int, **values: object) -> None:
        self._rounds[number] = self._round(number).model_copy(update=values)

    def _site(self, name: str) -> SiteRecord:
        return self._told.get(name) or SiteRecord(
            name=name, **_UNKNOWN.model_dump(), rounds_answered=0, rounds_failed={}
        )

    def _write(self) -> None:
        folder = self._run_folder
        write_record(folder / ROUNDS_FILE, RoundRecords(self.records()))
        write_record(folder / SITES_FILE, SiteRecords(self._site_records()))

    def _site_records(self) -> list[SiteRecord]:
        rows = [row for record in self._rounds.values() for row in record.sites]
        records = []
        for site in self._sites:
            own = [row for row in rows if row.name == site and row.asked]
            failed = Counter(row.code for row in own if row.code is not None)
            counted = {
                "rounds_answered": sum(row.code is None for row in own),
                "rounds_failed": dict(failed),
            }
            records.append(self._site(site).model_copy(update=counted))
        return records


def best_round(records: Sequence[RoundRecord], *, by: SelectBy) -> int | None:
    """Return the round whose model is best by a figure, the earliest of equals.

    None where no trained model has the figure.
    """
    figures = {
        record.round: figure
        for record in records
        if record.round and (figure := getattr(record, by)) is not None
    }
    sign = 1.0 if by.endswith("_loss") else -1.0
    return min(figures, key=lambda number: sign * figures[number], default=None)


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
