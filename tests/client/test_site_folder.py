import stat
from pathlib import Path

import pytest

from acf_client.site import Site, initialise, open_site
from acfnet_core.audit import verify
from acfnet_core.errors import AcfnetError, ConfigError, IdentityError, MachineError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / 'data "1" \\ ü' / "clinical.xlsx"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.fixture
def site(tmp_path: Path, table: Path) -> Site:
    return initialise(
        tmp_path / "site",
        clinical_table=table,
        images=table.parent,
        column_names={'Alter "J"': "age", "Geschlecht": "sex"},
    )


def code_of(folder: Path, table: Path, **changes: Path | str) -> str:
    images = changes.get("images")
    with pytest.raises(AcfnetError) as caught:
        initialise(
            folder,
            clinical_table=table,
            images=images if isinstance(images, Path) else None,
            column_names={},
            device=str(changes.get("device", "auto")),
        )
    return caught.value.code


def test_an_initialised_folder_is_opened_again(site: Site) -> None:
    assert open_site(site.folder) == site


def test_a_site_without_images_is_opened_again(tmp_path: Path, table: Path) -> None:
    site = initialise(
        tmp_path / "site", clinical_table=table, images=None, column_names={}
    )
    assert open_site(site.folder).images is None


def test_paths_are_kept_absolute(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    site = initialise(
        tmp_path / "site",
        clinical_table=Path("clinical.xlsx"),
        images=None,
        column_names={},
    )
    assert site.clinical_table == table


def test_what_is_private_is_for_its_owner_only(site: Site) -> None:
    for folder in (site.folder, site.identity_folder, site.prepared_folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("pseudonym.key", "site.toml", "audit.jsonl"):
        assert stat.S_IMODE((site.folder / name).stat().st_mode) == 0o600


def test_the_pseudonym_key_has_32_bytes(site: Site) -> None:
    assert len(site.load_pseudonym_key()) == 32


def test_a_pseudonym_key_that_others_can_read_is_not_used(site: Site) -> None:
    (site.folder / "pseudonym.key").chmod(0o644)
    with pytest.raises(IdentityError) as caught:
        site.load_pseudonym_key()
    assert caught.value.code == "identity.key_unsafe"


def test_a_cut_pseudonym_key_is_not_used(site: Site) -> None:
    (site.folder / "pseudonym.key").write_bytes(b"short")
    with pytest.raises(IdentityError, match="has 5 bytes; expected 32"):
        site.load_pseudonym_key()


def test_it_is_initialised_once(site: Site, table: Path) -> None:
    assert code_of(site.folder, table) == "config.already_initialised"


def test_an_interrupted_initialisation_keeps_the_pseudonym_key(
    site: Site, table: Path
) -> None:
    before = site.load_pseudonym_key()
    (site.folder / "site.toml").unlink()
    again = initialise(site.folder, clinical_table=table, images=None, column_names={})
    assert again.load_pseudonym_key() == before


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    code = code_of(tmp_path / "site", tmp_path / "none.csv")
    assert code == "data.path_not_found"
    assert not (tmp_path / "site").exists()


def test_a_missing_folder_of_images_is_refused(tmp_path: Path, table: Path) -> None:
    code = code_of(tmp_path / "site", table, images=tmp_path / "none")
    assert code == "data.path_not_found"


def test_an_unknown_device_is_refused(tmp_path: Path, table: Path) -> None:
    assert code_of(tmp_path / "site", table, device="gpu") == "config.invalid"


def test_a_folder_with_other_things_is_refused(table: Path) -> None:
    assert code_of(table.parent, table) == "machine.folder_not_empty"


def test_an_unwritable_folder_is_refused(table: Path) -> None:
    assert code_of(table / "site", table) == "machine.folder_unwritable"


def test_two_headings_for_one_name_are_refused(tmp_path: Path, table: Path) -> None:
    with pytest.raises(ConfigError, match=r"two headings: \['age'\]"):
        initialise(
            tmp_path / "site",
            clinical_table=table,
            images=None,
            column_names={"Alter": "age", "Age": "age"},
        )


def test_a_folder_that_is_not_set_up_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_site(tmp_path)
    assert caught.value.code == "config.not_initialised"


def test_all_faults_of_the_settings_are_named(site: Site) -> None:
    (site.folder / "site.toml").write_text(
        "[data]\nclinical_table = 1\ncolour = 2\n[compute]\ndevice = 'x'\n"
    )
    with pytest.raises(ConfigError) as caught:
        open_site(site.folder)
    for place in ("data.clinical_table", "data.colour", "compute.device"):
        assert f"site.toml: {place}: " in caught.value.message


def test_the_audit_log_begins_with_the_initialisation(site: Site) -> None:
    assert verify(site.audit.path).num_records == 1


def test_no_path_of_the_data_stands_in_the_audit_log(site: Site, table: Path) -> None:
    assert table.name not in site.audit.path.read_text()


def test_the_trainer_listens_in_a_short_folder(site: Site) -> None:
    short = Site(folder=Path("/srv/site"), config=site.config)
    assert short.trainer_socket == Path("/srv/site/trainer.sock")


def test_a_long_folder_has_its_socket_elsewhere(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    long_site = Site(folder=tmp_path / ("x" * 120), config=site.config)
    folder = long_site.make_socket_folder()
    assert long_site.trainer_socket.parent == folder
    assert folder.parent == tmp_path / "run"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_socket_folder_that_others_may_enter_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    long_site = Site(folder=tmp_path / ("x" * 120), config=site.config)
    long_site.make_socket_folder().chmod(0o777)
    with pytest.raises(MachineError, match="belongs to this user alone"):
        long_site.make_socket_folder()


def write_compute(site: Site, text: str) -> None:
    path = site.folder / "site.toml"
    before, _, _ = path.read_text().partition("[compute]")
    path.write_text(f"{before}[compute]\n{text}\n")


def test_how_to_compute_is_read(site: Site) -> None:
    write_compute(
        site,
        'devices = ["cuda:0", "cuda:1"]\nphysical_batch_size = 4\ncompile = true\n'
        'precision = "bfloat16"\nchannels_last = true\ncheckpointing = true',
    )
    compute = open_site(site.folder).config.compute
    assert compute.devices == ("cuda:0", "cuda:1")
    assert (compute.physical_batch_size, compute.precision) == (4, "bfloat16")
    assert compute.compile
    assert compute.channels_last
    assert compute.checkpointing


def test_nothing_of_it_is_on_unless_asked_for(site: Site) -> None:
    compute = open_site(site.folder).config.compute
    assert (compute.devices, compute.physical_batch_size) == ((), None)
    assert compute.precision == "float32"
    assert not any((compute.compile, compute.channels_last, compute.checkpointing))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('devices = ["cuda:0"]', "expected two or more of one kind"),
        ('devices = ["cuda:0", "cpu"]', "expected two or more of one kind"),
        ('devices = ["cuda:0", "cuda:0"]', "a GPU is named twice"),
        ('device = "cpu"\ndevices = ["cpu", "cpu"]', "give either device or devices"),
        ('devices = ["mps", "mps"]', "compute.devices.0"),
        ("physical_batch_size = 0", "compute.physical_batch_size"),
        ('precision = "float16"', "compute.precision"),
    ],
)
def test_a_senseless_way_of_computing_is_refused(
    site: Site, text: str, words: str
) -> None:
    write_compute(site, text)
    with pytest.raises(ConfigError, match=r"site\.toml") as caught:
        open_site(site.folder)
    assert words in caught.value.message
