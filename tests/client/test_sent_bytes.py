"""The bytes that a site hands to Flower, made from real files, searched for patients.

The site's data are DICOM and xlsx files whose folders, headers and cells carry planted
identifiers. Its trainer answers over a real socket, the app makes the Flower message,
and every object that Flower would send is searched, answers and failures alike.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from references.federated_run import CPU
from references.flower_task import be_a_flower_task
from references.site_rounds import ask_to_train, small_model

import acf_client.trainer as trainer_module
from acf_client.app import take_part
from acf_client.site import Site, initialise
from acf_client.trainer import Trainer, serve
from acf_client.trainer_link import SOCKET_VARIABLE, listen
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.cohort.prepared.preparation import prepare_cohort
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.cohort.sources import CohortSources
from acfnet_core.cohort.synthetic.sites import SyntheticSite, synthesize_site
from acfnet_core.federation.messages import DOCUMENT, FAILURE, PARAMETERS, REQUEST
from acfnet_core.identity.keys import generate_key

CONTRACT = shipped_contract("crlm").model_copy(update={"minimum_cell": 2})
MARKS = ("CRLM-SYN", "SYNTHETIC^PATIENT", "hospital-files", "prepared/", "scans/")
"""Identifiers and names of the planted patients, and parts of every path of theirs."""
CONTEXT = Context(
    run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={}
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "hospital-files"
    hospital = SyntheticSite(
        name="hospital-a",
        num_patients=4,
        slice_spacing_mm=7.5,
        pixel_spacing_mm=3.3,
        noise_hu=6.0,
        hu_shift=0.0,
        scans_missing_probability=0.0,
    )
    assert len(list(synthesize_site(hospital, folder, seed=1, num_workers=1))) == 4
    return folder


@pytest.fixture
def site(files: Path, tmp_path: Path) -> Site:
    table, images = files / "clinical.xlsx", files / "images"
    made = initialise(
        tmp_path / "site", clinical_table=table, images=images, column_names={}
    )
    sources = CohortSources(clinical_table=table, images_folder=images)
    key = made.load_pseudonym_key()
    events = prepare_cohort(
        CONTRACT, sources, made.prepared_folder, pseudonym_key=key, num_workers=1
    )
    assert len(list(events)) >= 4
    return made


@pytest.fixture
def trainer(site: Site) -> Trainer:
    return Trainer(
        site=site,
        name="hospital-a",
        cohort=open_store(site.prepared_folder, contract=CONTRACT),
        device=CPU,
        key=generate_key(),
    )


@pytest.fixture
def answer(
    trainer: Trainer, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Message]:
    """What the site sends when a round asks it to train."""
    be_a_flower_task(monkeypatch)
    monkeypatch.setattr(trainer_module, "_PARENT_CHECK_S", 0.02)
    monkeypatch.setenv(SOCKET_VARIABLE, str(socket_path))
    request, base = ask_to_train(small_model(), trainer.cohort)
    content = RecordDict(
        {
            REQUEST: ConfigRecord({DOCUMENT: request.model_dump_json()}),
            PARAMETERS: ArrayRecord({PARAMETERS: Array(base)}),
        }
    )
    asked = Message(content=content, dst_node_id=2, message_type="train")
    stopped = threading.Event()
    with listen(socket_path) as listener:
        thread = threading.Thread(
            target=serve,
            args=(trainer, listener),
            kwargs={"go_on": lambda: not stopped.is_set()},
        )
        thread.start()
        yield take_part(asked, CONTEXT)
        stopped.set()
        thread.join()


def sent_bytes(message: Message) -> bytes:
    """Everything of a message that Flower puts on the wire."""
    return b"".join(
        thing.deflate() for thing in get_all_nested_objects(message).values()
    )


def marks_of(trainer: Trainer) -> list[bytes]:
    """All that must not be sent: marks, folders, and the pseudonyms as well."""
    folders = (str(trainer.site.folder), str(trainer.site.clinical_table))
    pseudonyms = [patient.pseudonym for patient in trainer.cohort.patients]
    return [mark.encode() for mark in (*MARKS, *folders, *pseudonyms)]


def test_the_marks_are_planted_in_the_sites_files(files: Path) -> None:
    names = "".join(str(path) for path in files.rglob("*"))
    slices = b"".join(path.read_bytes() for path in files.rglob("1-*.dcm"))
    assert "CRLM-SYN" in names
    assert b"CRLM-SYN" in slices
    assert b"SYNTHETIC^PATIENT" in slices


def test_an_answer_holds_parameters_and_nothing_of_a_patient(
    answer: Message, trainer: Trainer
) -> None:
    sent = sent_bytes(answer)
    assert PARAMETERS in answer.content
    assert b"hospital-a" in sent, "the search looks at what is sent"
    assert [mark for mark in marks_of(trainer) if mark in sent] == []


@pytest.fixture
def damaged(site: Site) -> None:
    """A prepared scan that is cut short: its error names the file, at the site."""
    for path in site.prepared_folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])


@pytest.mark.usefixtures("damaged")
def test_a_failure_holds_a_code_and_nothing_of_a_patient(
    trainer: Trainer, request: pytest.FixtureRequest
) -> None:
    message: Message = request.getfixturevalue("answer")
    sent = sent_bytes(message)
    assert FAILURE in message.content
    assert b"data.store_damaged" in sent
    assert [mark for mark in marks_of(trainer) if mark in sent] == []
