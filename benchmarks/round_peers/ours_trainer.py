"""The site's trainer without patients: it sends back what it got, every value shifted.

    python benchmarks/round_peers/ours_trainer.py SITE_FOLDER

The program is the real one, torch and all; only the training itself and the opening of
the prepared patients are replaced.
"""

from types import SimpleNamespace

from sixty_tensors import shift
from stand_ins import put_in_place

from acf_client import trainer
from acfnet_core.cohort.contract import DataContract
from acfnet_core.federation.messages import (
    CohortCounts,
    RoundReply,
    RoundRequest,
    SiteMetrics,
    claim_about,
)
from acfnet_core.federation.parameters import FlatParameters, sha256_of
from acfnet_core.training.site_round import Sign, SiteAnswer

_UNTOLD_COUNTS = CohortCounts(
    num_patients=None,
    num_events=None,
    num_with_scans=None,
    num_scans=None,
    followed_months=None,
)
_UNTOLD_METRICS = SiteMetrics(
    num_patients=None, num_events=None, loss=None, harrell_c=None
)


def send_back(
    request: RoundRequest,
    base: FlatParameters,
    cohort: object,
    *,
    site: str,
    sign: Sign,
    **_: object,
) -> SiteAnswer:
    """Stand in for a site's work of a round."""
    del cohort
    parameters = base + shift() if request.trains else None
    parameters_sha256 = None if parameters is None else sha256_of(parameters)
    claim = claim_about(
        request,
        site=site,
        parameters_sha256=parameters_sha256,
        num_examples=1,
        reading_sha256=None,
    )
    reply = RoundReply(
        site=site,
        run=request.run,
        round=request.round,
        base_sha256=request.base_sha256,
        parameters_sha256=parameters_sha256,
        num_examples=1,
        num_steps=0,
        counts=_UNTOLD_COUNTS,
        metrics=_UNTOLD_METRICS,
        seconds=0.0,
        signature=sign(claim),
    )
    return SiteAnswer(reply=reply, parameters=parameters)


def no_patients(*_: object, contract: DataContract, **__: object) -> SimpleNamespace:
    """Stand in for the prepared patients: as many as the contract wants, but empty."""
    return SimpleNamespace(
        contract=contract, patients=[None] * contract.fewest_patients
    )


def main() -> None:
    """Serve the site until the parent ends."""
    put_in_place(trainer, "answer_round", send_back)
    put_in_place(trainer, "open_store", no_patients)
    trainer.main()


if __name__ == "__main__":
    main()
