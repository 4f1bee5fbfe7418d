"""What the process of a message does differently from Flower's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supernode.runtime import run_clientapp as task

from acf_client.clientapp_process import check_bundle, close_doors, without_reason
from acfnet_core.errors import ProtocolError
from acfnet_core.federation.bundle import bundle_folder

# flwr 1.41 asks pathspec 1.1 for its patterns by their old name.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.fixture
def closed() -> Iterator[None]:
    """Close the doors in Flower's module, and put it back as it was."""
    before = dict(vars(task))
    close_doors()
    yield
    vars(task).update(before)


def test_the_installed_bundle_is_accepted() -> None:
    check_bundle(build_fab_from_disk(bundle_folder()))


def test_a_bundle_that_carries_code_is_refused(tmp_path: Path) -> None:
    names = (bundle_folder() / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(names)
    (tmp_path / "acf_client").mkdir()
    (tmp_path / "acf_client" / "app.py").write_text("print('shadow')\n")
    with pytest.raises(ProtocolError) as caught:
        check_bundle(build_fab_from_disk(tmp_path))
    assert caught.value.code == "protocol.bundle_refused"


@pytest.mark.usefixtures("closed")
def test_flowers_task_refuses_another_bundle_before_unpacking_it() -> None:
    with pytest.raises(ProtocolError, match="not the one installed here"):
        vars(task)["install_from_fab"](b"another bundle", skip_prompt=True)


def test_an_error_of_flowers_leaves_without_its_text() -> None:
    error = without_reason(2, "<class 'OSError'>:<'/data/PATIENT-4711/1.dcm'>")
    assert (error.code, error.reason) == (2, None)


@pytest.mark.usefixtures("closed")
def test_flowers_task_makes_its_errors_with_our_function() -> None:
    assert vars(task)["Error"] is without_reason
