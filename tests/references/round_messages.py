"""Requests and replies of a made-up run; a change may break any rule of theirs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acfnet_core.federation.messages import (
    CohortCounts,
    RoundReply,
    RoundRequest,
    SiteMetrics,
)
from acfnet_core.federation.parameters import sha256_of

RUN = "run-1"
SITE = "hospital-a"
BASE_SHA256 = "a" * 64


def make_request(**changes: Any) -> RoundRequest:
    """Return the request of a second round of three, with unchecked changes."""
    request = RoundRequest(
        run=RUN,
        round=2,
        num_rounds=3,
        trains=True,
        seed=7,
        contract_sha256="c" * 64,
        layout_sha256="d" * 64,
        base_sha256=BASE_SHA256,
        model={"num_clinical_features": 13},
        training={"local_steps": 1},
        loss={},
    )
    return request.model_copy(update=changes)


def make_reply(
    parameters: NDArray[np.float32] | None = None, **changes: Any
) -> RoundReply:
    """Return a good reply to `make_request`, with unchecked changes."""
    reply = RoundReply(
        site=SITE,
        run=RUN,
        round=2,
        base_sha256=BASE_SHA256,
        parameters_sha256=None if parameters is None else sha256_of(parameters),
        num_examples=40,
        num_steps=5,
        counts=CohortCounts(
            num_patients=40,
            num_events=22,
            num_with_scans=None,
            num_scans=None,
            followed_months=60.0,
        ),
        metrics=SiteMetrics(num_patients=40, num_events=22, loss=2.5, harrell_c=0.625),
        seconds=1.5,
        signature="AAAA",
    )
    return reply.model_copy(update=changes)
