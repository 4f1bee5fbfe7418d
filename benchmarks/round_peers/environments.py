"""An environment of Python for each peer that is not ours, made once and kept."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = {
    "flare": "nvflare>=2.9,<2.10",
    # What acfnet stands on here, so that only our own part differs.
    "flower": f"flwr=={metadata.version('flwr')}",
}
_PACKAGES = {"flare": "nvflare", "flower": "flwr", "ours": "acfnet"}


def environment_of(peer: str, folder: Path) -> Path:
    """Return a peer's environment; made with pip if it is not there.

    Args:
        peer: `ours`, `flare` or `flower`.
        folder: Where environments are kept, one a peer.
    """
    if peer == "ours":
        return Path(sys.prefix)
    environment = folder / peer
    made = environment / ".requirement"
    requirement = REQUIREMENTS[peer]
    if not made.exists() or made.read_text() != requirement:
        folder.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", str(environment))
        pip = (str(environment / "bin" / "python"), "-m", "pip", "-qq")
        _run(*pip, "--disable-pip-version-check", "install", requirement)
        made.write_text(requirement)
    return environment


def version_of(peer: str, environment: Path) -> str:
    """Return the version of a peer's package."""
    package = _PACKAGES[peer]
    code = f"from importlib.metadata import version; print(version({package!r}))"
    python = str(environment / "bin" / "python")
    return _run(python, "-c", code).strip()


def _run(*command: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own commands
        command, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout
