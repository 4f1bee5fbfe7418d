"""The sites' app in the workers of Flower's simulation engine.

A message goes to the app of a real site (app.py), over a socket to the trainer of a
real site (trainer.py); only the trainer is started in the worker itself, and the site
was never enrolled. A worker plays whichever site is next, so it keeps them all.
"""

import os
from functools import cache
from pathlib import Path
from threading import Thread

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from acf_client.app import app as site_app
from acf_client.settings import ComputeConfig, SiteConfig
from acf_client.site import Site
from acf_client.trainer_link import SOCKET_VARIABLE, listen
from acfnet_core.cohort.data_settings import DataConfig
from acfnet_core.federation.simulated_sites import (
    SITE_NAME,
    SITE_QUERY,
    SITE_RECORD,
    simulated_site,
    simulated_socket,
)

PARTITION = "partition-id"
"""Flower's number of a simulated node, from 0."""
DEVICE = "cpu"
NUM_THREADS = 1
"""Of a site's trainer: a worker for each processor uses it better than threads do."""


class SimulatedApp(ClientApp):
    """Answers for the site that a message's node plays."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Hand a message to the site's app, with the site's trainer behind it."""
        number = context.node_config[PARTITION]
        folder = simulated_site(int(number))
        if message.metadata.message_type == SITE_QUERY:
            told = ConfigRecord({SITE_NAME: folder.name})
            return Message(content=RecordDict({SITE_RECORD: told}), reply_to=message)
        os.environ[SOCKET_VARIABLE] = str(_serve_site(folder, int(number)))
        return site_app(message=message, context=context)


app = SimulatedApp()


@cache
def _serve_site(folder: Path, number: int) -> Path:
    """Start a site's trainer in this process; return its socket."""
    # The engine's driver loads this module too and needs no torch.
    from acf_client.trainer import Trainer, serve
    from acfnet_core.cohort.contract import load_contract
    from acfnet_core.cohort.prepared.store import open_store
    from acfnet_core.identity.keys import load_key
    from acfnet_core.training.device import choose_device
    from acfnet_core.training.reproducibility import make_deterministic

    make_deterministic(num_threads=NUM_THREADS)
    site = Site(
        folder=folder,
        config=SiteConfig(
            # Its table was read before: only the prepared patients are looked at.
            data=DataConfig(clinical_table=folder / "none"),
            compute=ComputeConfig(device=DEVICE, num_threads=NUM_THREADS),
        ),
    )
    contract = load_contract(site.contract_path)
    trainer = Trainer(
        site=site,
        name=folder.name,
        cohort=open_store(site.prepared_folder, contract=contract),
        device=choose_device(DEVICE),
        key=load_key(site.key_path),
    )
    path = simulated_socket(number)
    listener = listen(path)
    Thread(
        target=serve,
        args=(trainer, listener),
        kwargs={"go_on": lambda: True},
        daemon=True,
        name=f"trainer of {folder.name}",
    ).start()
    return path
