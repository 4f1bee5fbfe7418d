"""Replies of a site that is broken or hostile, generated in any number.

The site holds its own key: what it changes it signs again, so that the signature alone
protects nobody. Every kind yields a reply that must not enter the global model.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from references.federated_run import (
    SITES,
    FederatedRun,
    InProcessSites,
    make_run,
    make_sites,
)

from acf_server.answers import RawAnswer
from acfnet_core.federation.messages import RoundReply, RoundRequest
from acfnet_core.federation.parameters import FlatParameters
from acfnet_core.identity.envelope import UpdateClaim, sign_update

BAD = SITES[1]
HUGE = np.float32(1e4)

Values = NDArray[np.generic]


def change_some(values: FlatParameters, chance: Generator, to: float) -> FlatParameters:
    """Put a value in some places, at least one."""
    changed = values.copy()
    count = int(chance.integers(1, min(50, values.size)))
    changed[chance.integers(0, values.size, count)] = to
    return changed


def other_shape(values: FlatParameters, chance: Generator) -> Values:
    """Return the values in another length or form."""
    length = int(chance.integers(1, 20))
    forms: list[Values] = [
        values[:-length],
        np.concatenate([values, values[:length]]),
        values[None],
        np.empty(0, np.float32),
        np.array(1.0, np.float32),
    ]
    return forms[chance.integers(len(forms))]


def other_type(values: FlatParameters, chance: Generator) -> Values:
    """Return the values in another type."""
    kinds = (np.float64, np.float16, np.int32, np.int64, np.uint8, np.complex64, bool)
    return values.astype(kinds[chance.integers(len(kinds))])


def too_far(values: FlatParameters, chance: Generator) -> Values:
    """Return values that lie far from the global model."""
    scale = np.float32(10 ** chance.uniform(0, 30))
    noise = chance.standard_normal(values.size).astype(np.float32)
    return values + HUGE * scale * noise


SPOILT: dict[str, Callable[[FlatParameters, Generator], Values]] = {
    "NaN": lambda values, chance: change_some(values, chance, np.nan),
    "Inf": lambda values, chance: change_some(
        values, chance, float(chance.choice([np.inf, -np.inf]))
    ),
    "wrong shape": other_shape,
    "wrong dtype": other_type,
    "huge norm": too_far,
}
"""Parameters that a site sends, hashes and signs itself."""

COUNTS: dict[str, Callable[[Generator], object]] = {
    "num_examples of 1e9": lambda chance: int(10 ** chance.uniform(8, 30)),
    "num_examples below 0": lambda chance: -int(chance.integers(1, 1 << 40)),
    "num_examples of 0": lambda chance: [0, 0.0, -0.0, False, "0"][chance.integers(5)],
    "num_examples of NaN": lambda chance: [float("nan"), float("inf"), None, "NaN"][
        chance.integers(4)
    ],
}


def wrong_names(document: dict[str, object], chance: Generator) -> dict[str, object]:
    """Rename, drop or add a field."""
    names = sorted(document)
    name = names[chance.integers(len(names))]
    what = chance.integers(3)
    if what == 0:
        document[f"{name}x"] = document.pop(name)
    elif what == 1:
        document[f"extra{chance.integers(100)}"] = 1
    else:
        fields = RoundReply.model_fields
        required = [n for n in names if fields[n].is_required() and n != "signature"]
        del document[required[chance.integers(len(required))]]
    return document


def torn(text: str, chance: Generator) -> str:
    """Cut a document, or change some of its characters."""
    if chance.integers(2):
        return text[: chance.integers(len(text))]
    at = int(chance.integers(len(text)))
    return text[:at] + chr(int(chance.integers(1, 0x2FF))) * 3 + text[at + 1 :]


class HostileSite:
    """A site of a run in one process, and every kind of what it may send."""

    def __init__(self, folder: Path) -> None:
        self.sites: InProcessSites = make_sites()
        self.run: FederatedRun = make_run(folder, self.sites, minimum_sites=2)
        self.seen: dict[int, list[RawAnswer]] = {}

    def honest(self, request: RoundRequest, base: FlatParameters) -> list[RawAnswer]:
        """Return what all sites would answer, kept for a replay later."""
        answers = list(self.sites(request, base))
        self.seen[request.round] = answers
        return answers

    def cases(self, kind: str, number: int, seed: int) -> Iterator[RawAnswer]:
        """Yield replies of one kind to the last round that was played."""
        chance = np.random.default_rng(seed)
        last = self.seen[max(self.seen)]
        own = next(raw for raw in last if raw.site == BAD)
        for _ in range(number):
            yield self._make(kind, own, last, chance)

    def _make(
        self, kind: str, own: RawAnswer, last: list[RawAnswer], chance: Generator
    ) -> RawAnswer:
        document = json.loads(own.reply or "{}")
        assert own.parameters is not None
        if kind in SPOILT:
            values = SPOILT[kind](own.parameters, chance)
            document["parameters_sha256"] = hashlib.sha256(values.tobytes()).hexdigest()
            sent = cast(FlatParameters, values)
            return self._sign(replace(own, parameters=sent), document)
        if kind in COUNTS:
            document["num_examples"] = COUNTS[kind](chance)
            return self._sign(own, document)
        if kind == "wrong names":
            return self._sign(own, wrong_names(document, chance))
        if kind == "foreign reply":
            other = [raw for raw in last if raw.site != BAD][chance.integers(2)]
            return replace(other, site=BAD)
        if kind == "replayed reply":
            earlier = [n for n in self.seen if n < max(self.seen)]
            return self.seen[earlier[chance.integers(len(earlier))]][1]
        if kind == "forged signature":
            forged = chance.bytes(int(chance.integers(1, 120)))
            document["signature"] = base64.b64encode(forged).decode()
            return replace(own, reply=json.dumps(document))
        return replace(own, reply=torn(own.reply or "", chance))

    def _sign(self, raw: RawAnswer, document: dict[str, object]) -> RawAnswer:
        """Sign a changed document, where a claim can be made of it at all."""
        names = UpdateClaim.model_fields
        try:
            claim = UpdateClaim.model_validate({n: document.get(n) for n in names})
        except ValueError:
            return replace(raw, reply=json.dumps(document))
        signature = sign_update(self.sites.keys[BAD], claim)
        document["signature"] = base64.b64encode(signature).decode()
        return replace(raw, reply=json.dumps(document))


KINDS = (
    *SPOILT,
    *COUNTS,
    "wrong names",
    "foreign reply",
    "replayed reply",
    "forged signature",
    "torn document",
)
