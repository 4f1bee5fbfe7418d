"""A site's update in fewer bytes: rounded to 16 bits, or its largest values alone.

What is rounded or left out is not lost: the site keeps it, and adds it to the next
round's update (error feedback). Of an encoded update nothing is believed before it was
read: its length, its places and its values are checked first.

    float16   an exponent e, int32, then every value as `h 2^e` with h in 16 bits
    top_k     the places of the k largest magnitudes, uint32, then their float32 values

All numbers are little-endian. Settings and length of the model are known to both sides,
so an encoded update has one length only.

Source: Seide et al. 2014, doi:10.21437/Interspeech.2014-274; Stich et al. 2018, arXiv
1809.07599, algorithm 1; Karimireddy et al. 2019, arXiv 1901.09847, algorithm 2. Ours:
what a site keeps is measured against the parameters that the server will have, so that
their rounding is fed back as well.

Axes: `value` runs over all parameters, `byte` over an encoded update, `kept` over the
values that top_k sends.
"""

from dataclasses import dataclass
from math import frexp
from typing import Annotated, Any, Final, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from pydantic import Field, model_validator

from acfnet_core.config import Section
from acfnet_core.federation.blocks import blocks_of, take_block
from acfnet_core.federation.parameters import FlatParameters

Compression = Literal["none", "float16", "top_k"]
EncodedUpdate = UInt8[np.ndarray, " byte"]
SentValues = FlatParameters | EncodedUpdate
"""What a site sends as one vector: its parameters as they are, or an encoded update."""
Places = Int64[np.ndarray, " kept"]

DEFAULT_SHARE: Final = 0.05
_LARGEST_EXPONENT = 15
"""The largest magnitude is brought to at least 2^14 and less than 2^15: a float16 ends
at 65504, and is exact to 2^-25 at its lower end."""
_EXPONENTS = range(-163, 114)
"""Of a float32: those that the smallest and the largest magnitude lead to."""
_EXPONENT_BYTES = 4
_HALF_BYTES = 2
_PLACE_BYTES = 4
_VALUE_BYTES = 4


class UpdateSettings(Section):
    """How a site's update is encoded on its way to the server."""

    compression: Compression = "none"
    top_k_share: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """Of the values, sent with `top_k`; from a half on they would be no fewer bytes."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Fill in the share of top_k, so that what is stored is complete."""
        is_given = isinstance(content, dict) and content.get("top_k_share") is not None
        if isinstance(content, dict) and content.get("compression") == "top_k":
            return content if is_given else {**content, "top_k_share": DEFAULT_SHARE}
        return content

    @model_validator(mode="after")
    def _check_share(self) -> "UpdateSettings":
        if self.top_k_share is not None and self.compression != "top_k":
            raise ValueError(
                f"top_k_share belongs to compression top_k, not to {self.compression}"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether updates are encoded at all."""
        return self.compression != "none"

    def num_kept(self, num_values: int) -> int:
        """Return how many values top_k sends: its share, rounded, and at least one.

        Example:
            >>> UpdateSettings(compression="top_k", top_k_share=0.01).num_kept(250)
            2
        """
        return max(1, round((self.top_k_share or DEFAULT_SHARE) * num_values))

    def num_bytes(self, num_values: int) -> int:
        """Return the bytes of an update of this many values."""
        if self.compression == "float16":
            return _EXPONENT_BYTES + _HALF_BYTES * num_values
        if self.compression == "top_k":
            return (_PLACE_BYTES + _VALUE_BYTES) * self.num_kept(num_values)
        return _VALUE_BYTES * num_values


@dataclass(frozen=True, kw_only=True)
class CompressedUpdate:
    """What a site sends of its update, and what it keeps.

    Attributes:
        encoded: What travels.
        parameters: What the server will make of it, to the last bit.
        residual: What did not arrive by it, for the next round.
    """

    encoded: EncodedUpdate
    parameters: FlatParameters
    residual: FlatParameters


def compress_update(
    base: FlatParameters,
    trained: FlatParameters,
    residual: FlatParameters | None,
    settings: UpdateSettings,
) -> CompressedUpdate:
    """Encode what training changed and what earlier rounds left to be sent.

    Over the rounds `sum of (parameters - base) = sum of (trained - base) - residual`,
    up to the rounding of the residual to float32.

    Args:
        base: The global parameters that the site was given.
        trained: What its training made of them.
        residual: Of the site's last round that was taken; None before the first.
        settings: How to encode.

    Raises:
        ValueError: A value is not finite, or the settings encode nothing.
    """
    kept = np.zeros_like(base) if residual is None else residual
    left = np.empty_like(base)
    # What overflows becomes infinite, and `encode` refuses it.
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks_of(base.size):
            wanted = take_block(trained, block) + kept[block]
            left[block] = wanted - base[block]
        encoded = encode(left, settings)
        parameters = received_parameters(encoded, base, settings)
        if not np.isfinite(parameters).all():
            raise ValueError("there are values that are not finite")
        for block in blocks_of(base.size):
            wanted = take_block(trained, block) + kept[block]
            left[block] = wanted - parameters[block]
    return CompressedUpdate(encoded=encoded, parameters=parameters, residual=left)


def received_parameters(
    encoded: NDArray[np.generic], base: FlatParameters, settings: UpdateSettings
) -> FlatParameters:
    """Return a site's parameters: the global ones and the decoded update.

    Site and server both call this. A sum that overflows becomes infinite, as a site's
    own parameters may be: admission refuses it.

    Raises:
        ValueError: It is not the encoding of an update.
    """
    parameters = decode(encoded, settings, num_values=base.size)
    with np.errstate(over="ignore"):
        parameters += base
    return parameters


def encode(difference: FlatParameters, settings: UpdateSettings) -> EncodedUpdate:
    """Encode an update; equal updates give equal bytes.

    Raises:
        ValueError: A value is not finite, or the settings encode nothing.
    """
    if not np.isfinite(difference).all():
        raise ValueError("there are values that are not finite")
    if settings.compression == "float16":
        return _to_halves(difference)
    if settings.compression == "top_k":
        return _to_largest(difference, settings.num_kept(difference.size))
    raise ValueError("with compression none an update is sent as it is")


def decode(
    encoded: NDArray[np.generic], settings: UpdateSettings, *, num_values: int
) -> FlatParameters:
    """Check an encoded update and return it in full length.

    A float16 differs from what was encoded by at most `2^-11 |value| + 2^-39 M`, M
    being the update's largest magnitude; top_k gives back the values that it has, and
    minus zero elsewhere, which changes no bit of what it is added to.

    Args:
        encoded: What came, of any shape and type.
        settings: What the site was asked for.
        num_values: Of the model.

    Raises:
        ValueError: It is not the encoding of an update; with the reason.
    """
    expected = settings.num_bytes(num_values)
    if encoded.dtype != np.uint8 or encoded.shape != (expected,):
        found = f"{encoded.dtype}{list(encoded.shape)}"
        raise ValueError(
            f"got {found}; expected {settings.compression} in uint8[{expected}]"
        )
    if settings.compression == "float16":
        return _from_halves(encoded)
    if settings.compression == "top_k":
        return _from_largest(encoded, num_values)
    raise ValueError("with compression none an update is sent as it is")


def largest_places(difference: FlatParameters, num_kept: int) -> Places:
    """Return where the largest magnitudes lie, in order; of equal ones the first.

    Taken from the whole vector, not from each of its arrays by itself:
    benchmarks/compression.md compares both.
    """
    magnitudes = np.abs(difference)
    ordered = np.partition(magnitudes, difference.size - num_kept)
    # A partition may take equal magnitudes in any order; their value is one.
    least = ordered[difference.size - num_kept]
    above = np.flatnonzero(magnitudes > least)
    equal = np.flatnonzero(magnitudes == least)[: num_kept - above.size]
    return np.sort(np.concatenate([above, equal]))


def _to_halves(difference: FlatParameters) -> EncodedUpdate:
    largest = max(float(difference.max()), -float(difference.min()))
    exponent = frexp(largest)[1] - _LARGEST_EXPONENT if largest else 0
    halves = np.empty(difference.size, dtype="<f2")
    for block in blocks_of(difference.size):
        halves[block] = take_block(difference, block) * 2.0**-exponent
    return _joined(np.array([exponent], dtype="<i4"), halves)


def _from_halves(encoded: EncodedUpdate) -> FlatParameters:
    exponent = int(encoded[:_EXPONENT_BYTES].view("<i4")[0])
    halves = encoded[_EXPONENT_BYTES:].view("<f2")
    if exponent not in _EXPONENTS:
        raise ValueError("the exponent is none that a float32 leads to")
    if not np.isfinite(halves).all():
        raise ValueError("there are values that are not finite")
    values = np.empty(halves.size, dtype=np.float32)
    with np.errstate(over="ignore"):
        for block in blocks_of(values.size):
            values[block] = halves[block].astype(np.float64) * 2.0**exponent
    return values


def _to_largest(difference: FlatParameters, num_kept: int) -> EncodedUpdate:
    if difference.size > np.iinfo(np.uint32).max:
        raise ValueError(f"{difference.size} values; a place has 32 bits")
    places = largest_places(difference, num_kept)
    return _joined(places.astype("<u4"), difference[places].astype("<f4"))


def _from_largest(encoded: EncodedUpdate, num_values: int) -> FlatParameters:
    half = encoded.size // 2
    places = encoded[:half].view("<u4").astype(np.int64)
    sent: Float32[np.ndarray, " kept"] = encoded[half:].view("<f4").astype(np.float32)
    if (np.diff(places) <= 0).any() or places[-1] >= num_values:
        raise ValueError(f"the places do not increase from 0 to below {num_values}")
    if not np.isfinite(sent).all():
        raise ValueError("there are values that are not finite")
    values = np.full(num_values, -0.0, dtype=np.float32)
    values[places] = sent
    return values


def _joined(*parts: NDArray[np.generic]) -> EncodedUpdate:
    return np.concatenate([part.view(np.uint8) for part in parts])
