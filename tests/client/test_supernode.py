from pathlib import Path
from types import SimpleNamespace

import pytest

from acf_client import supernode
from acf_client.site import Site, initialise
from acf_client.supernode import LOCK_NAME, running_site
from acfnet_core.errors import IdentityError, MachineError
from acfnet_core.files import held_lock


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # Where a long path sends the socket; a folder of the test, whatever is set here.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    table = tmp_path / "clinical.csv"
    table.touch()
    return initialise(
        tmp_path / "s", clinical_table=table, images=None, column_names={}
    )


def test_a_site_that_runs_is_not_started_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SimpleNamespace(address="127.0.0.1:9092")
    monkeypatch.setattr(supernode, "require_enrolment", lambda site: state)
    monkeypatch.setattr(supernode, "load_contract", lambda path: None)
    monkeypatch.setattr(supernode, "open_store", lambda folder, **_: None)
    with (
        held_lock(site.folder / LOCK_NAME, what="this site"),
        pytest.raises(MachineError, match="this site is running already") as caught,
        running_site(site, tell=print),
    ):
        pass
    assert caught.value.code == "machine.already_running"
    assert not list(site.logs_folder.iterdir())


def test_a_site_that_is_not_enrolled_starts_nothing(site: Site) -> None:
    with pytest.raises(IdentityError), running_site(site, tell=print):
        pass
    assert not list(site.logs_folder.iterdir())
