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
from acfnet_core.federation.compression import (
    EncodedUpdate,
    UpdateSettings,
    received_parameters,
)
from acfnet_core.federation.messages import RoundReply, RoundRequest
from acfnet_core.federation.parameters import FlatParameters
from acfnet_core.identity.envelope import UpdateClaim, sign_update

BAD = SITES[1]
PLAIN = UpdateSettings()
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


def put(part: str, *values: object) -> Callable[[EncodedUpdate, Generator], Values]:
    """Return what changes a part of an encoded update in a place of its own."""
    kinds = {"exponent": "<i4", "half": "<f2", "place": "<u4", "value": "<f4"}

    def change(encoded: EncodedUpdate, chance: Generator) -> Values:
        changed = encoded.copy()
        middle = changed.size // 2
        parts = {
            "exponent": changed[:4],
            "half": changed[4:],
            "place": changed[:middle],
            "value": changed[middle:],
        }
        into = parts[part].view(kinds[part])
        into[chance.integers(into.size)] = values[chance.integers(len(values))]
        return changed

    return change


def places_out_of_order(encoded: EncodedUpdate, chance: Generator) -> Values:
    """Turn two neighbouring places round, or name one of them twice."""
    changed = encoded.copy()
    places = changed[: changed.size // 2].view("<u4")
    at = int(chance.integers(places.size - 1))
    first, second = places[at : at + 2].tolist()
    places[at : at + 2] = [(second, first), (first, first)][chance.integers(2)]
    return changed


def with_float32_in_place(encoded: EncodedUpdate, chance: Generator) -> Values:
    """Send plain float32 values instead."""
    return chance.standard_normal(encoded.size // 4).astype(np.float32)


_IN_EVERY_ENCODING = {
    "wrong shape": cast("Callable[[EncodedUpdate, Generator], Values]", other_shape),
    "float32 values": with_float32_in_place,
}
SPOILT_ENCODINGS: dict[str, dict[str, Callable[[EncodedUpdate, Generator], Values]]] = {
    "float16": {
        "NaN": put("half", np.nan),
        "Inf": put("half", np.inf, -np.inf),
        "no exponent": put("exponent", 114, -164, 2**31 - 1, -(2**31)),
        "huge exponent": put("exponent", *range(0, 114, 7)),
        **_IN_EVERY_ENCODING,
    },
    "top_k": {
        "NaN": put("value", np.nan),
        "Inf": put("value", np.inf, -np.inf),
        "huge norm": put("value", 1e4, -1e10, 3e38),
        "place outside": put("place", 2**32 - 1, 2**31),
        "places out of order": places_out_of_order,
        **_IN_EVERY_ENCODING,
    },
}
"""By the compression of the run: encoded updates that a site hashes and signs itself.
"""
DECLARED = "another compression declared"

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

    def __init__(self, folder: Path, updates: UpdateSettings = PLAIN) -> None:
        self.updates = updates
        self.sites: InProcessSites = make_sites()
        self.sites.runs_folder = folder / "sites"
        self.run: FederatedRun = make_run(folder, self.sites, minimum_sites=2)
        self.run.plan = self.run.plan.model_copy(update={"updates": updates})
        self.seen: dict[int, list[RawAnswer]] = {}
        self.base: FlatParameters | None = None

    def honest(self, request: RoundRequest, base: FlatParameters) -> list[RawAnswer]:
        """Return what all sites would answer, kept for a replay later."""
        self.base = base
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
        encodings = SPOILT_ENCODINGS.get(self.updates.compression, {})
        if kind in encodings or kind == DECLARED:
            return self._make_encoded(encodings.get(kind), own, document, chance)
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

    def _make_encoded(
        self,
        spoil: Callable[[EncodedUpdate, Generator], Values] | None,
        own: RawAnswer,
        document: dict[str, object],
        chance: Generator,
    ) -> RawAnswer:
        """Spoil an encoded update, or declare it to be what it is not."""
        if spoil is None:
            others = {"none", "float16", "top_k"} - {self.updates.compression}
            document["compression"] = sorted(others)[chance.integers(2)]
            return self._sign(own, document)
        assert own.parameters is not None
        values = spoil(own.parameters, chance)
        document["parameters_sha256"] = self._hash_of(values)
        return self._sign(replace(own, parameters=values), document)

    def _hash_of(self, encoded: Values) -> str:
        """Hash what the server would take it for, as far as it can be decoded."""
        assert self.base is not None
        try:
            values: Values = received_parameters(encoded, self.base, self.updates)
        except ValueError:
            values = encoded
        return hashlib.sha256(values.tobytes()).hexdigest()

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
