import os
import stat
from pathlib import Path

import pytest

from acf_server.coordinator import Coordinator, initialise, open_coordinator
from acfnet_core.audit import verify
from acfnet_core.errors import AcfnetError, ConfigError, MachineError

CONTRACT = 'name = "crlm"\r\n# größe\n'


def set_up(folder: Path, **changes: str) -> Coordinator:
    options = {"consortium": "crlm", "address": "fl.example.org:8443", **changes}
    options.setdefault("contract_text", CONTRACT)
    return initialise(
        folder,
        consortium=options["consortium"],
        address=options["address"],
        contract_text=options["contract_text"],
        root_passphrase=b"secret words",
    )


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return set_up(tmp_path / "coordinator")


def code_of(folder: Path, **changes: str) -> str:
    with pytest.raises(AcfnetError) as caught:
        set_up(folder, **changes)
    return caught.value.code


def test_an_initialised_folder_is_opened_again(coordinator: Coordinator) -> None:
    assert open_coordinator(coordinator.folder) == coordinator


def test_the_contract_is_kept_byte_for_byte(coordinator: Coordinator) -> None:
    assert coordinator.read_contract_text() == CONTRACT


def test_the_folder_is_for_its_owner_only(coordinator: Coordinator) -> None:
    assert stat.S_IMODE(coordinator.folder.stat().st_mode) == 0o700


def test_the_audit_log_begins_with_the_initialisation(coordinator: Coordinator) -> None:
    assert verify(coordinator.audit.path).num_records == 1
    assert coordinator.root_fingerprint in coordinator.audit.path.read_text()


def test_it_is_initialised_once(coordinator: Coordinator) -> None:
    before = coordinator.root_fingerprint
    assert code_of(coordinator.folder) == "config.already_initialised"
    assert coordinator.root_fingerprint == before


def test_an_interrupted_initialisation_is_completed(coordinator: Coordinator) -> None:
    (coordinator.folder / "server.toml").unlink()
    completed = set_up(coordinator.folder)
    assert open_coordinator(coordinator.folder) == completed


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    assert code_of(tmp_path) == "machine.folder_not_empty"


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert code_of(tmp_path / "file" / "below") == "machine.folder_unwritable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert code_of(tmp_path / "below") == "machine.folder_unwritable"


@pytest.mark.parametrize(
    "changes", [{"consortium": "C R"}, {"address": "https://x"}], ids=str
)
def test_a_faulty_option_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    assert code_of(tmp_path / "new", **changes) == "config.invalid"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "= 1", "#" * (256 * 1024 + 1)], ids=len)
def test_a_faulty_contract_is_refused(tmp_path: Path, text: str) -> None:
    assert code_of(tmp_path / "new", contract_text=text) == "config.contract_invalid"


def test_a_folder_that_is_not_set_up_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_coordinator(tmp_path)
    assert caught.value.code == "config.not_initialised"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "::"])  # noqa: S104
def test_only_the_loopback_address_may_listen(
    coordinator: Coordinator, host: str
) -> None:
    path = coordinator.folder / "server.toml"
    path.write_text(path.read_text().replace("127.0.0.1", host))
    with pytest.raises(MachineError) as caught:
        open_coordinator(coordinator.folder)
    assert caught.value.code == "machine.address_not_loopback"


def test_an_unknown_setting_is_refused(coordinator: Coordinator) -> None:
    path = coordinator.folder / "server.toml"
    path.write_text(path.read_text() + "colour = 1\n")
    with pytest.raises(ConfigError, match=r"server\.toml: colour: Extra"):
        open_coordinator(coordinator.folder)


def test_a_lost_contract_is_reported(coordinator: Coordinator) -> None:
    coordinator.contract_path.unlink()
    with pytest.raises(ConfigError, match="data contract cannot be read"):
        coordinator.read_contract_text()
