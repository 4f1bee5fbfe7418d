from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from acfnet_core.identity.certificates import Authority, make_issuing, make_root
from acfnet_core.identity.keys import generate_key

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Consortium:
    """A root and an issuing authority of a made-up consortium, and a moment."""

    root: Authority
    issuing: Authority
    now: datetime


@pytest.fixture(scope="session")
def consortium() -> Consortium:
    root = make_root("crlm", generate_key(), now=NOW)
    issuing = make_issuing("crlm", generate_key(), root, now=NOW)
    return Consortium(root=root, issuing=issuing, now=NOW)


@pytest.fixture(scope="session")
def site_key() -> ec.EllipticCurvePrivateKey:
    return generate_key()
