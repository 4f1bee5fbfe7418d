"""Before the first round: what each site says of being ready, and nothing more.

The coordinator asks with the run's contract and the size of its model. A site answers
with codes of what stands against the run, and with what its machine has, rounded so
that it tells of the machine alone.
"""

import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from acfnet_core.config import Section
from acfnet_core.errors import CATALOGUE, MachineError
from acfnet_core.federation.messages import (
    FORMAT_VERSION,
    RunName,
    Sha256,
    parse_document,
)
from acfnet_core.files import describe_os_error
from acfnet_core.identity.names import Name

GIB = 1 << 30
VALUE_BYTES = 4
DISK_COPIES = 4
"""Of the parameters, that a site may have on its disk at once."""
MEMORY_COPIES = 12
"""Of the parameters, that a site's processes may hold at once: the vector as it comes
and goes in both of them, the model, its gradients and the optimiser's two moments."""
SPARE_BYTES = GIB // 4
LEAST_DISK_BYTES = 16 << 20
"""With less space neither Flower's database nor ours could be written."""

DeviceKind = Literal["cpu", "cuda", "mps"]
Version = Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z.+!_-]+$")]
Gigabytes = Annotated[float, Field(ge=0, le=1e6)]


class ReadinessRequest(Section):
    """The server asks whether a site could take part in a run."""

    format_version: Literal[1] = FORMAT_VERSION
    asks: Literal["readiness"] = "readiness"
    run: RunName
    contract_sha256: Sha256
    version: Version
    """Of acfnet at the coordinator."""
    num_values: Annotated[int, Field(ge=1)]
    """Length of the vector that travels."""


class Readiness(Section):
    """What a site answers; `codes` is empty when it is ready."""

    format_version: Literal[1] = FORMAT_VERSION
    site: Name
    run: RunName
    version: Version
    device: DeviceKind
    free_disk_gib: Gigabytes
    free_memory_gib: Gigabytes
    codes: tuple[Annotated[str, Field(max_length=60)], ...] = ()

    @property
    def known_codes(self) -> tuple[str, ...]:
        """The codes, those that this version does not know as `protocol.malformed`."""
        return tuple(c if c in CATALOGUE else "protocol.malformed" for c in self.codes)


def parse_readiness_request(document: str) -> ReadinessRequest:
    """Read a server's question at a site.

    Raises:
        ProtocolError: `protocol.malformed`.
    """
    return parse_document(ReadinessRequest, document)


def parse_readiness(document: str) -> Readiness:
    """Read a site's answer at the server.

    Raises:
        ProtocolError: `protocol.malformed`.
    """
    return parse_document(Readiness, document)


def machine_codes(
    request: ReadinessRequest, *, free_disk_bytes: int, free_memory_bytes: int
) -> tuple[str, ...]:
    """Return what the machine lacks for a model of this size."""
    size = request.num_values * VALUE_BYTES
    codes = []
    if free_disk_bytes < DISK_COPIES * size + SPARE_BYTES:
        codes.append("machine.disk_low")
    if free_memory_bytes < MEMORY_COPIES * size + SPARE_BYTES:
        codes.append("machine.memory_low")
    return tuple(codes)


def require_space(folder: Path) -> None:
    """Refuse to go on where next to nothing can be written.

    Raises:
        MachineError: There is less space than any database needs
            (`machine.disk_full`), or the folder is gone.
    """
    try:
        num_free = free_disk_bytes(folder)
    except OSError as error:
        raise describe_os_error(error, folder) from error
    if num_free < LEAST_DISK_BYTES:
        raise MachineError(
            "machine.disk_full",
            f"{folder}: the disk is full; the run goes on when there is space.",
            remedy="Free space on this disk.",
        )


def free_disk_bytes(folder: Path) -> int:
    """Return what may still be written where a folder lies."""
    return shutil.disk_usage(folder).free


def free_memory_bytes() -> int:
    """Return how much memory new work may take without swapping (Linux)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise ValueError("/proc/meminfo has no MemAvailable")


def rounded_gib(num_bytes: int) -> float:
    """Return gibibytes to two digits."""
    return float(f"{num_bytes / GIB:.2g}")
