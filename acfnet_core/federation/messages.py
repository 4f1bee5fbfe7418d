"""What server and sites say to each other: typed, versioned, and nothing else.

A message is a small JSON document beside one flat vector of parameters. Unknown keys
are refused on both sides, so nothing can travel that is not named here;
docs/architecture.md lists these fields as what leaves a hospital.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from acfnet_core.config import Section
from acfnet_core.errors import CATALOGUE, ProtocolError
from acfnet_core.federation.compression import Compression, UpdateSettings
from acfnet_core.identity.envelope import MAX_EXAMPLES, UpdateClaim
from acfnet_core.identity.names import Name

FORMAT_VERSION: Final = 1
MAX_DOCUMENT_BYTES = 1 << 20

REQUEST = "request"
REPLY = "reply"
FAILURE = "failure"
"""Names of the three kinds of message; each carries one document."""
DOCUMENT = "document"
PARAMETERS = "parameters"
"""Names of the document and of the flat vector inside a message."""

Document = TypeVar("Document", bound=Section)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LandmarkMonths = Annotated[float, Field(ge=-24, le=96)]
"""Months after the resection from which a run's times count."""
RunName = Name
"""A run is named like a site: its name stands in file names."""


LocalRule = Literal["plain", "fedprox", "scaffold", "local_only"]
COMPRESSED_RULES: Final[frozenset[LocalRule]] = frozenset({"plain", "fedprox"})
"""Those whose sites send parameters and nothing else."""


class LocalStrategy(Section):
    """What the run's strategy has a site do beside plain training."""

    name: LocalRule = "plain"
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    """FedProx: how strongly a site is held at the global parameters."""
    last_rounds: dict[Name, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Site to the last round whose answer of it was taken: what a site remembers of
    that round counts, and of later ones does not."""

    @property
    def num_vectors(self) -> int:
        """How many vectors of the model's length a message carries as one."""
        return 2 if self.name == "scaffold" else 1


class RoundRequest(Section):
    """The server asks a site to judge the global model, and to train it further."""

    format_version: Literal[1] = FORMAT_VERSION
    run: RunName
    round: Annotated[int, Field(ge=1)]
    """From 1. The request that only judges the last model has `num_rounds` + 1."""
    num_rounds: Annotated[int, Field(ge=1)]
    trains: bool
    seed: Annotated[int, Field(ge=0)]
    contract_sha256: Sha256
    layout_sha256: Sha256
    base_sha256: Sha256
    """Hash of the global parameters that come with this request."""
    model: dict[str, Any]
    training: dict[str, Any]
    loss: dict[str, Any]
    landmark_months: LandmarkMonths | None = None
    """The site trains and judges on its patients as they were seen then; null is from
    the resection, with every patient."""
    local_strategy: LocalStrategy = LocalStrategy()
    updates: UpdateSettings = UpdateSettings()
    """How the site encodes what it sends; never, where `trains` is false."""
    personalise: dict[str, Any] | None = None
    """How the site trains the final model further for its own use; null is not at
    all. Only where `trains` is false."""

    @model_validator(mode="after")
    def _check_updates(self) -> "RoundRequest":
        if self.updates.is_on and self.local_strategy.name not in COMPRESSED_RULES:
            raise ValueError("the local strategy sends more or less than parameters")
        return self


class SiteMetrics(Section):
    """How the received global model does on a site's own patients.

    A figure is null where it rests on fewer patients or events than the contract's
    minimum cell, or where it is not defined.
    """

    num_patients: Annotated[int, Field(ge=0)] | None
    num_events: Annotated[int, Field(ge=0)] | None
    loss: Annotated[float, Field(allow_inf_nan=False)] | None
    harrell_c: Annotated[float, Field(ge=0, le=1)] | None


class CohortCounts(Section):
    """What a site tells of its cohort; null where below the minimum cell."""

    num_patients: Annotated[int, Field(ge=0)] | None
    num_events: Annotated[int, Field(ge=0)] | None
    num_with_scans: Annotated[int, Field(ge=0)] | None
    num_scans: Annotated[int, Field(ge=0)] | None
    followed_months: Annotated[float, Field(gt=0)] | None
    """Right edge of the last bin at whose start at least the minimum cell of the
    patients were still at risk; null where that is none."""


class ModelFigures(Section):
    """How one model does on patients that no site trained on; null as above."""

    loss: Annotated[float, Field(allow_inf_nan=False)] | None
    harrell_c: Annotated[float, Field(ge=0, le=1)] | None


class PersonalComparison(Section):
    """A site's own model beside the global one, on the site's validation part."""

    num_patients: Annotated[int, Field(ge=0)] | None
    global_model: ModelFigures
    own_model: ModelFigures


class RoundReply(Section):
    """A site's answer; its parameters travel beside it when it has trained."""

    format_version: Literal[1] = FORMAT_VERSION
    site: Name
    run: RunName
    round: Annotated[int, Field(ge=1)]
    base_sha256: Sha256
    parameters_sha256: Sha256 | None
    """Null when the request did not ask for training, or has them stay at the site.
    Of encoded parameters: the hash of what they are decoded to."""
    compression: Compression = "none"
    """How the parameters beside it are encoded: as the request says."""
    num_examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
    num_steps: Annotated[int, Field(ge=0)]
    reading_sha256: Sha256 | None = None
    """Hash of how the site read its table and images; null where its data does not
    say."""
    counts: CohortCounts
    metrics: SiteMetrics
    personal: PersonalComparison | None = None
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    signature: Annotated[str, Field(max_length=300, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
    """Base64 of the site key's signature over the update's claim."""


def claim_about(
    request: RoundRequest,
    *,
    site: str,
    parameters_sha256: str | None,
    num_examples: int,
    reading_sha256: str | None,
) -> UpdateClaim:
    """Return what a site signs in its answer to a request.

    Both sides call this, each with what it knows by itself. Who has not trained signs
    for the parameters that it received.
    """
    return UpdateClaim(
        run=request.run,
        site=site,
        round=request.round,
        base_sha256=request.base_sha256,
        parameters_sha256=parameters_sha256 or request.base_sha256,
        compression=request.updates.compression,
        num_examples=num_examples,
        reading_sha256=reading_sha256,
    )


class SiteFailure(Section):
    """A site could not take part: a code of the catalogue, and no other word."""

    format_version: Literal[1] = FORMAT_VERSION
    code: str


def parse_request(document: str) -> RoundRequest:
    """Read a server's request at a site.

    Raises:
        ProtocolError: `protocol.malformed`; the text of the fault stays local.
    """
    return parse_document(RoundRequest, document)


def parse_reply(document: str) -> RoundReply:
    """Read a site's reply at the server.

    Raises:
        ProtocolError: `protocol.malformed`.
    """
    return parse_document(RoundReply, document)


def parse_failure(document: str) -> SiteFailure:
    """Read a site's failure; an unknown code becomes `protocol.malformed`."""
    failure = parse_document(SiteFailure, document)
    if failure.code in CATALOGUE:
        return failure
    return SiteFailure(code="protocol.malformed")


def parse_document(kind: type[Document], document: str) -> Document:
    """Read a document of one kind.

    Raises:
        ProtocolError: `protocol.malformed`; the text of the fault stays local.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise _malformed(kind, f"{len(document)} characters")
    try:
        return kind.model_validate_json(document)
    except ValidationError as error:
        # The cause is not chained: its text quotes what the other side sent.
        raise _malformed(kind, _describe_places(error)) from None


def _describe_places(error: ValidationError) -> str:
    """Name the places of the faults by our own words, never by those received."""
    unknown = any(fault["type"] == "extra_forbidden" for fault in error.errors())
    places = {
        ".".join(map(str, fault["loc"])) or "the document as a whole"
        for fault in error.errors()
        if fault["type"] != "extra_forbidden"
    }
    return "faults at " + ", ".join([*sorted(places), *["unknown keys"] * unknown])


def _malformed(kind: type[Section], found: str) -> ProtocolError:
    return ProtocolError(
        "protocol.malformed",
        f"A {kind.__name__} does not have the agreed form: {found}.",
        remedy="Install the same acfnet version on both sides.",
    )
