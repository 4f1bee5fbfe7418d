from pathlib import Path

import pytest

from acf_client.site import Site, initialise
from acf_client.supernode import free_loopback_port, refuse_second_start, running_site
from acf_client.trainer_link import listen
from acfnet_core.errors import IdentityError, MachineError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # Where a long path sends the socket; a folder of the test, whatever is set here.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    table = tmp_path / "clinical.csv"
    table.touch()
    return initialise(
        tmp_path / "s", clinical_table=table, images=None, column_names={}
    )


def test_a_site_that_runs_is_not_started_again(site: Site) -> None:
    site.make_socket_folder()
    with (
        listen(site.trainer_socket),
        pytest.raises(MachineError, match="running already") as caught,
    ):
        refuse_second_start(site)
    assert caught.value.code == "machine.already_running"
    assert site.trainer_socket.exists()


def test_what_a_crash_left_behind_is_removed(site: Site) -> None:
    site.make_socket_folder()
    listen(site.trainer_socket).close()
    assert site.trainer_socket.exists()
    refuse_second_start(site)
    assert not site.trainer_socket.exists()


def test_a_site_that_never_ran_may_start(site: Site) -> None:
    refuse_second_start(site)


def test_a_site_that_is_not_enrolled_starts_nothing(site: Site) -> None:
    with pytest.raises(IdentityError), running_site(site):
        pass
    assert not list(site.logs_folder.iterdir())


def test_a_free_port_is_one_that_a_user_may_take() -> None:
    assert 1024 <= free_loopback_port() <= 65535
