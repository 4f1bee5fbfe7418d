"""What server and site agree on where Flower's simulation engine plays the sites.

The engine numbers its nodes and gives them no names. A variable of the environment,
which its workers inherit, lists the sites' folders in the order of these numbers.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

SITES_VARIABLE = "ACF_SIMULATED_SITES"
SOCKETS_VARIABLE = "ACF_SIMULATED_SOCKETS"
SITE_QUERY = "query.site"
"""Type of the message by which the server asks a node which site it is."""
SITE_RECORD = "site"
SITE_NAME = "name"
"""Names of the record in the answer, and of its one entry."""
CLIENT_APP = "acf_client.simulated_app:app"
"""Of the site's app in the engine's workers, as a bundle would name it."""


def simulated_environment(
    folders: Sequence[Path], sockets_folder: Path
) -> dict[str, str]:
    """Return the variables that a worker needs.

    Args:
        folders: The sites', by Flower's numbers of their nodes; named like the sites.
        sockets_folder: A private folder with a short path.
    """
    listed = json.dumps([str(path.resolve()) for path in folders])
    return {SITES_VARIABLE: listed, SOCKETS_VARIABLE: str(sockets_folder)}


def simulated_socket(number: int) -> Path:
    """Return where this process's trainer of a site listens.

    Raises:
        KeyError: This process belongs to no simulation.
    """
    return Path(os.environ[SOCKETS_VARIABLE]) / f"{os.getpid()}-{number}.sock"


def simulated_site(number: int) -> Path:
    """Return the folder of the site that a node plays.

    Raises:
        ValueError: This process belongs to no simulation with so many sites.
    """
    folders: list[str] = json.loads(os.environ.get(SITES_VARIABLE, "[]"))
    if not 0 <= number < len(folders):
        raise ValueError(f"there is no site {number} among {len(folders)}")
    return Path(folders[number])
