"""The sites' app as a worker of Flower's simulation engine runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from references.flower_task import be_a_flower_task, set_message_id
from references.simulated_cohorts import table_contract, write_site
from references.site_rounds import ask_to_train, small_model

from acf_client import simulated_app
from acf_client.simulated_app import app
from acf_client.trainer_link import SOCKET_VARIABLE
from acf_server.exchange import read_answer
from acf_server.in_process import LocalSite
from acfnet_core.cohort.prepared.store import open_store
from acfnet_core.federation.messages import DOCUMENT, PARAMETERS, REQUEST, parse_reply
from acfnet_core.federation.simulated_sites import (
    SITE_NAME,
    SITE_QUERY,
    SITE_RECORD,
    simulated_environment,
    simulated_site,
)
from acfnet_core.identity.keys import generate_key, save_key

NAMES = ("north", "south")
KEY = generate_key()
Ask = Callable[[str, RecordDict, int], Message]


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    folders = [
        write_site(tmp_path / name, 20, seed=seed) for seed, name in enumerate(NAMES)
    ]
    for folder in folders:
        (folder / "identity").mkdir()
        save_key(folder / "identity" / "site.key", KEY)
    return folders


@pytest.fixture
def ask(sites: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    be_a_flower_task(monkeypatch)
    # It would change the whole process, and with it later tests.
    monkeypatch.setattr(
        "acfnet_core.training.reproducibility.make_deterministic",
        lambda num_threads: None,
    )
    monkeypatch.setenv(SOCKET_VARIABLE, "")
    simulated_app._serve_site.cache_clear()

    def send(kind: str, content: RecordDict, number: int) -> Message:
        message = Message(content=content, dst_node_id=1, message_type=kind)
        set_message_id(message, "message")
        context = Context(1, 1, {"partition-id": number}, RecordDict(), {})
        return app(message=message, context=context)

    with TemporaryDirectory(prefix="acfnet-") as sockets:
        for name, value in simulated_environment(sites, Path(sockets)).items():
            monkeypatch.setenv(name, value)
        yield send


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_says_which_site_it_plays(ask: Ask, number: int) -> None:
    answer = ask(SITE_QUERY, RecordDict(), number)
    told = answer.content.config_records[SITE_RECORD]
    assert told[SITE_NAME] == NAMES[number]


def test_a_number_without_a_site_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match="no site 2 among 2"):
        simulated_site(2)


def local_site(folder: Path, key: ec.EllipticCurvePrivateKey) -> LocalSite:
    cohort = open_store(folder / "prepared", contract=table_contract())
    device = torch.device("cpu")
    return LocalSite(name=folder.name, cohort=cohort, key=key, device=device)


def test_it_answers_as_a_site_in_one_process_does(ask: Ask, sites: list[Path]) -> None:
    site = local_site(sites[1], KEY)
    request, base = ask_to_train(small_model(), site.cohort)
    content = RecordDict(
        {
            REQUEST: ConfigRecord({DOCUMENT: request.model_dump_json()}),
            PARAMETERS: ArrayRecord({PARAMETERS: Array(base)}),
        }
    )
    expected = site.answer(request, base)
    answer = read_answer(ask("train", content, 1), "south", seconds=0.0)
    assert answer.reply is not None
    assert expected.reply is not None
    varying = {"seconds", "signature"}
    told = parse_reply(answer.reply).model_dump(exclude=varying)
    assert told == parse_reply(expected.reply).model_dump(exclude=varying)
    assert answer.parameters is not None
    assert expected.parameters is not None
    np.testing.assert_array_equal(answer.parameters, expected.parameters)
