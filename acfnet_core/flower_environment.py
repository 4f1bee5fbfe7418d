"""The environment that every Flower process of ours gets, on either side.

This module names Flower's variables and programs; it imports nothing of Flower.
"""

import os
import sys
from pathlib import Path

from acfnet_core.errors import MachineError
from acfnet_core.files import make_folder

SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""What keeps Flower from calling home and from installing what a bundle asks for."""


CHUNK_BYTES = 5 << 19
"""Of the pieces in which Flower sends a vector: on a bad line Flower's own 5 MB may
never arrive in one go."""


def keep_flower_quiet() -> None:
    """Set the switches for this process; call it before Flower is first imported."""
    os.environ.update(SWITCHES)


def flower_environment(home: Path) -> dict[str, str]:
    """Return the variables for one Flower process.

    Telemetry, the update check and the installation of dependencies at run time are
    off; each process has a home of its own, since two that share one race when they
    unpack a bundle; the programs that Flower starts by name are those installed here.

    Args:
        home: The process's own folder; made if it does not exist.
    """
    programs = str(Path(sys.executable).parent)
    return {
        **SWITCHES,
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        # A chunk that is cut off is sent again from its start.
        "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE": str(CHUNK_BYTES),
        "FLWR_HOME": str(make_folder(home.resolve(), private=True)),
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }


def flower_home() -> Path | None:
    """Return the folder that this Flower process was given, if it was."""
    home = os.environ.get("FLWR_HOME")
    return Path(home) if home else None


def flower_program(name: str) -> str:
    """Return the path of one of Flower's programs in this environment.

    Raises:
        MachineError: `machine.program_missing`.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise MachineError(
            "machine.program_missing",
            f"{path}: Flower's program is not installed in this environment.",
            remedy="Install acfnet again into a fresh environment (see README.md).",
        )
    return str(path)
