"""What the report says of everything that crossed a site's border."""

from collections.abc import Sequence
from dataclasses import dataclass

from acf_server.report_numbers import size, whole
from acf_server.run_files import RoundRecord, RunRecord, SiteRecord
from acfnet_core.errors import CATALOGUE
from acfnet_core.federation.compression import UpdateSettings


@dataclass(frozen=True, kw_only=True)
class LeftRow:
    """One kind of thing that crossed a site's border, and how much of it.

    Attributes:
        fields: Those of `RoundReply` that it stands for; none where it is no part of
            one.
    """

    what: str
    content: str
    amount: str
    fields: tuple[str, ...] = ()


def describe_traffic(
    run: RunRecord, sites: Sequence[SiteRecord], rounds: Sequence[RoundRecord]
) -> list[LeftRow]:
    """List what the sites sent and were sent, with the amounts of this run."""
    received = sum(record.bytes_received for record in rounds)
    sent = sum(record.bytes_sent for record in rounds)
    answers = sum(site.rounds_answered for site in sites)
    return [
        LeftRow(
            what="Arrays",
            content="the model's parameters after the site's training "
            f"({whole(run.num_parameters)} numbers){describe_encoding(run.updates)}",
            amount=f"{answers} answers, {size(received)} in all",
        ),
        *_describe_reply(run),
        LeftRow(
            what="Codes",
            content="constant words for what went wrong, never the text of an error",
            amount=_codes(sites),
        ),
        LeftRow(
            what="To the sites",
            content="the global model's parameters, the settings of model, loss and "
            "training, the seed, the landmark if there is one, the run's name, the "
            "round, and hashes of the contract and the parameters; with some "
            "strategies a second vector of the parameters' length and, by the names of "
            "the sites, the last round that was taken of each",
            amount=f"{size(sent)} in all",
        ),
    ]


def describe_encoding(updates: UpdateSettings) -> str:
    """Say in how many bytes updates were sent, where not as they are."""
    return _ENCODINGS[updates.compression].format(share=updates.top_k_share)


_ENCODINGS = {
    "none": "",
    "float16": "; updates were sent in 16 bits a value",
    "top_k": "; of each update the largest values were sent, a share of {share:g}",
}


def _describe_reply(run: RunRecord) -> list[LeftRow]:
    """List every field of a site's answer."""
    cell = run.minimum_cell
    return [
        LeftRow(
            what="Counts",
            content="patients, events, patients with scans and scans; one that points "
            f"at fewer than {cell} patients is withheld. The time up to which at least "
            f"{cell} patients were at risk, by the model's time bins",
            amount="5 numbers an answer",
            fields=("counts",),
        ),
        LeftRow(
            what="Training",
            content="the number of patients, in full: a site with fewer than "
            f"{cell} takes no part. The number of steps and the seconds taken",
            amount="3 numbers an answer",
            fields=("num_examples", "num_steps", "seconds"),
        ),
        LeftRow(
            what="Metrics",
            content="mean loss and Harrell's C of the global model on the site's "
            "patients, with the patients and events behind them; C is withheld below "
            f"{cell} patients with or {cell} without the event",
            amount="4 numbers an answer",
            fields=("metrics",),
        ),
        LeftRow(
            what="Own models",
            content="where sites keep models of their own: mean loss and Harrell's C "
            "of these and of the global model on the site's validation part, and its "
            "number of patients, all withheld as above; the models stay at the sites",
            amount="5 numbers, once, or none",
            fields=("personal",),
        ),
        LeftRow(
            what="Labels",
            content="the form of the message, the names of site and run, the round, "
            "hashes of the parameters before and after training and of how the site's "
            "table and images are read, how the parameters are encoded, and the site's "
            "signature",
            amount="one of each an answer",
            fields=_LABELS,
        ),
    ]


_LABELS = (
    "format_version",
    "site",
    "run",
    "round",
    "base_sha256",
    "parameters_sha256",
    "compression",
    "reading_sha256",
    "signature",
)


def _codes(sites: Sequence[SiteRecord]) -> str:
    """List the codes that sites sent, with their meaning."""
    codes = sorted({code for site in sites for code in site.rounds_failed})
    if not codes:
        return "none in this run"
    return "; ".join(
        f"{code}: {CATALOGUE[code].meaning}" if code in CATALOGUE else code
        for code in codes
    )
