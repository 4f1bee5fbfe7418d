"""What a site tells of its data before any run, and the signature over it.

The form is closed: a key that is not named here is refused on both sides. There is no
date, no identifier, no smallest or largest value and nothing about one patient.
docs/data-summary.md says for every field what it is and when it is null.
"""

import base64
import hashlib
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, ValidationError, model_validator

from acfnet_core.canonical import canonical_json
from acfnet_core.config import Section
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.messages import Sha256
from acfnet_core.identity.names import Name
from acfnet_core.withholding import withhold

FORMAT_VERSION: Final = 1
MAX_SUMMARY_BYTES = 1 << 20
RISK_YEARS = (1, 3, 5)

_DOMAIN = b"acfnet-site-summary-v1\n"

Count = Annotated[int, Field(ge=0)] | None
"""A number of people, scans or studies; null where it is withheld."""
Figure = Annotated[float, Field(allow_inf_nan=False)] | None
_Label = Annotated[str, Field(min_length=1, max_length=200)]


class Moments(Section):
    """Mean and standard deviation over patients, to three significant digits."""

    mean: float
    standard_deviation: Annotated[float, Field(ge=0)]


class Quartiles(Section):
    """Median and quartiles over patients; the quartiles need twice as many patients."""

    lower: Figure = None
    median: float
    upper: Figure = None


class OutcomeSummary(Section):
    """How many events there are, and how long patients were followed."""

    num_events: Count
    median_follow_up_years: Figure
    """By the reversed Kaplan-Meier estimate, to half a year."""
    num_at_risk: dict[str, Count]
    """Year, of `RISK_YEARS` -> patients still free of the event and followed then."""

    def cells(self, num_patients: int) -> dict[str, int]:
        """Return every group of patients that the counts tell or imply."""
        return _nested_cells(
            {"all": num_patients, "events": self.num_events}
        ) | _nested_cells({"all": num_patients, **self.num_at_risk})


class ScanSummary(Section):
    """The prepared scans; figures are of each patient's last scan."""

    num_with_scans: Count
    num_scans: Count
    patients_by_scans: dict[str, int] | None
    """Number of scans -> patients who have so many."""
    slice_spacing_mm: Quartiles | None
    pixel_spacing_mm: Quartiles | None
    liver_hu: Moments | None
    """Over patients, of the mean HU within each one's liver."""

    def cells(self, num_patients: int) -> dict[str, int]:
        """Return every group of patients that the counts tell or imply."""
        cells = _nested_cells({"all": num_patients, "with scans": self.num_with_scans})
        for num_scans, count in (self.patients_by_scans or {}).items():
            cells |= _nested_cells({"all": num_patients, f"{num_scans} scans": count})
        return cells


class FeatureSummary(Section):
    """One column: a number has moments, a binary or category column has codes."""

    num_known: Count
    moments: Moments | None = None
    """Of the number as the contract transforms it: itself or log(1 + x)."""
    codes: dict[_Label, Count] | None = None
    """Code -> patients; what is withheld here is of the minimum cell or more in sum."""

    def cells(self, num_patients: int) -> dict[str, int]:
        """Return every group of patients that the counts tell or imply."""
        cells = _nested_cells({"all": num_patients, "known": self.num_known})
        if self.codes is None:
            return cells
        told = {code: n for code, n in self.codes.items() if n is not None}
        for code, count in told.items():
            cells |= _nested_cells({"all": num_patients, f"code {code}": count})
        for name, whole in (("all", num_patients), ("known", self.num_known)):
            if whole is not None:
                cells[f"{name} but told codes"] = whole - sum(told.values())
        return cells


class SiteSummary(Section):
    """The aggregate that leaves a site.

    One in which a count is of few patients, or two tell of few together, is refused
    wherever it is read.
    """

    format_version: Literal[1] = FORMAT_VERSION
    consortium: Name
    site: Name
    release: Annotated[int, Field(ge=1, le=1_000_000)]
    """From 1; a changed summary of the same site has a higher one."""
    acfnet_version: Annotated[str, Field(max_length=40)]
    contract_name: Annotated[str, Field(max_length=100)]
    contract_sha256: Sha256
    minimum_cell: Annotated[int, Field(ge=1)]
    num_patients: Annotated[int, Field(ge=1)]
    outcome: OutcomeSummary | None
    """Null, as `scans` and a feature, where it is too close to an earlier release."""
    scans: ScanSummary | None
    features: dict[_Label, FeatureSummary | None]
    refused: dict[_Label, Count]
    """Reason code -> studies or series that were not used."""

    @model_validator(mode="after")
    def _check_cells(self) -> "SiteSummary":
        blocks = (self.outcome, self.scans, *self.features.values())
        told = [block.cells(self.num_patients) for block in blocks if block is not None]
        cells = [count for cells in told for count in cells.values()]
        if any(count < 0 for count in cells):
            raise ValueError("a group of patients is larger than the one it lies in")
        if any(withhold(count, minimum=self.minimum_cell) is None for count in cells):
            raise ValueError("a group of patients is smaller than the minimum cell")
        return self

    def sha256(self) -> str:
        """Return the hash of the content."""
        content = canonical_json(self.model_dump(mode="json"))
        return hashlib.sha256(content).hexdigest()

    def least_known(self, feature: str) -> int | None:
        """Return how many patients at least have a value; None where nothing is told.

        A figure whose count is withheld stands for all but a few of the patients.
        """
        told = self.features.get(feature)
        if told is None:
            return None
        if told.num_known is None and told.moments is not None:
            return self.num_patients - self.minimum_cell + 1
        return told.num_known


class SignedSummary(Section):
    """A summary as its file has it."""

    summary: SiteSummary
    signature: Annotated[str, Field(max_length=300, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
    """ECDSA with SHA-384 by the site's key over all of `summary`, base64."""

    def to_bytes(self) -> bytes:
        """Write the file."""
        return f"{self.model_dump_json(indent=2)}\n".encode()


def sign_summary(
    key: ec.EllipticCurvePrivateKey, summary: SiteSummary
) -> SignedSummary:
    """Sign a summary with the site's key."""
    signature = key.sign(_signed_bytes(summary), ec.ECDSA(hashes.SHA384()))
    text = base64.b64encode(signature).decode("ascii")
    return SignedSummary(summary=summary, signature=text)


def verify_summary(key: ec.EllipticCurvePublicKey, signed: SignedSummary) -> None:
    """Check that the holder of `key` signed exactly this summary.

    Raises:
        ProtocolError: `protocol.signature_invalid`.
    """
    try:
        signature = base64.b64decode(signed.signature, validate=True)
        key.verify(signature, _signed_bytes(signed.summary), ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(
            "protocol.signature_invalid",
            f"the data summary of site {signed.summary.site}: its signature does not "
            "verify with the key registered for this site.",
            remedy="Ask the site for the file again, as `acf-client data summary "
            "--write` wrote it.",
        ) from error


def parse_summary(content: bytes, *, where: str) -> SignedSummary:
    """Read a signed summary; whose it is has still to be verified.

    Args:
        content: The file's bytes.
        where: Its name, for the message.

    Raises:
        ProtocolError: `protocol.malformed`.
    """
    if len(content) > MAX_SUMMARY_BYTES:
        raise _malformed(where, f"more than {MAX_SUMMARY_BYTES} bytes")
    try:
        return SignedSummary.model_validate_json(content)
    except ValidationError as error:
        # The cause is not chained: its text quotes what the file holds.
        raise _malformed(where, f"{error.error_count()} faults") from None


def _nested_cells(counts: dict[str, int | None]) -> dict[str, int]:
    """Return the counts of groups, each within those before, and what lies between."""
    told = [(name, count) for name, count in counts.items() if count is not None]
    pairs: Iterable[tuple[tuple[str, int], tuple[str, int]]] = combinations(told, 2)
    gaps = {f"{a} but {b}": outer - inner for (a, outer), (b, inner) in pairs}
    return dict(told) | gaps


def _signed_bytes(summary: SiteSummary) -> bytes:
    """Put the purpose before the content, so that no other signature fits."""
    return _DOMAIN + canonical_json(summary.model_dump(mode="json"))


def _malformed(where: str, found: str) -> ProtocolError:
    return ProtocolError(
        "protocol.malformed",
        f"{where}: is not a signed data summary: {found}.",
        remedy="Ask the site for the file that `acf-client data summary --write` "
        "wrote; install the same acfnet version on both sides.",
    )
