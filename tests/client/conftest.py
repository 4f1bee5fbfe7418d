import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A short path: the system allows about 100 bytes for one of a socket."""
    with tempfile.TemporaryDirectory(prefix="acf-") as folder:
        yield Path(folder) / "t.sock"
