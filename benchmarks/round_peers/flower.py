"""Plain Flower's rounds: SuperLink and SuperNodes as they come, TLS, a stock app.

`flower` trains and evaluates in each round, as Flower's strategies do unless told
otherwise; `flower-train` sends the sites one message a round, as the others do.
"""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from ssl import create_default_context
from urllib.error import URLError

from round_peers.measurement import Play, Task
from round_peers.process_watch import SERVER
from round_peers.relay import LOOPBACK, free_loopback_port

from acf_server.pki import PkiPaths, create_pki
from acfnet_core.flower_environment import SWITCHES
from acfnet_core.processes import (
    Child,
    check_alive,
    start_child,
    stop_children,
    wait_until,
)

TIMES_FILE = "round-ends.txt"
START_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 3600.0
_HERE = Path(__file__).parent
_CONNECTED = b"SuperNode ID:"


def play(task: Task, *, evaluates: bool) -> list[float]:
    """Play a federation; return when each of its rounds ended."""
    pki = create_pki(
        task.folder / "pki",
        consortium="rounds",
        hosts=[LOOPBACK, "localhost"],
        root_passphrase=None,
        now=datetime.now(UTC),
    )
    app = _write_app(task.folder / "app")
    with _running(task, pki):
        home = task.folder / "cli-home"
        home.mkdir()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "rounds"\n\n[superlink.rounds]\n'
            f'address = "{LOOPBACK}:{task.server_port}"\n'
            f'root-certificates = "{pki.root_certificate}"\n'
        )
        settings = {
            "num-server-rounds": str(task.num_rounds),
            "num-sites": str(task.num_sites),
            "mb": str(float(task.mb)),
            "fraction-evaluate": str(float(evaluates)),
            "times-file": f'"{task.folder / TIMES_FILE}"',
        }
        pairs = " ".join(f"{name}={value}" for name, value in settings.items())
        with (task.folder / "run.log").open("wb") as log:
            subprocess.run(  # noqa: S603 - Flower's own program
                [task.program("flwr"), "run", str(app), "--stream", "-c", pairs],
                env={**os.environ, **_environment(task, home)},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_RUN_TIMEOUT_S,
                check=True,
            )
    return [float(line) for line in (task.folder / TIMES_FILE).read_text().split()]


PLAYS: dict[str, Play] = {
    "flower": partial(play, evaluates=True),
    "flower-train": partial(play, evaluates=False),
}


def _write_app(folder: Path) -> Path:
    """Copy the app, with the model that every peer sends about."""
    shutil.copytree(_HERE / "flower_app", folder)
    shutil.copy(_HERE / "sixty_tensors.py", folder / "rounds_app")
    return folder


def _environment(task: Task, home: Path) -> dict[str, str]:
    path = f"{task.environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**SWITCHES, "FLWR_HOME": str(home), "PATH": path}


@contextmanager
def _running(task: Task, pki: PkiPaths) -> Iterator[list[Child]]:
    """Run the SuperLink and then the SuperNodes."""
    children: list[Child] = []
    try:
        children.append(_start_superlink(task, pki))
        wait_until(
            lambda: _is_healthy(task, pki),
            children=children,
            timeout_s=START_TIMEOUT_S,
        )
        nodes = [_start_supernode(task, pki, site) for site in task.sites]
        children.extend(nodes)
        wait_until(
            lambda: all(_CONNECTED in node.log_file.read_bytes() for node in nodes),
            children=children,
            timeout_s=START_TIMEOUT_S,
        )
        yield children
        check_alive(children)
    finally:
        stop_children(children)


def _start_superlink(task: Task, pki: PkiPaths) -> Child:
    return start_child(
        "SuperLink",
        [
            task.program("flower-superlink"),
            *("--host", LOOPBACK, "--port", str(task.server_port)),
            *("--ssl-ca-certfile", str(pki.root_certificate)),
            *("--ssl-certfile", str(pki.server_chain)),
            *("--ssl-keyfile", str(pki.server_key)),
            # It would ask a registry at the run's start, not in its rounds.
            "--disable-runtime-dependency-installation",
        ],
        log_file=task.folder / "superlink.log",
        environment={
            **_environment(task, task.folder / "superlink-home"),
            **task.role(SERVER),
        },
    )


def _start_supernode(task: Task, pki: PkiPaths, site: str) -> Child:
    return start_child(
        site,
        [
            task.program("flower-supernode"),
            *("--superlink", f"{LOOPBACK}:{task.relay_port}"),
            *("--root-certificates", str(pki.root_certificate)),
            *("--host", LOOPBACK, "--port", str(free_loopback_port())),
        ],
        log_file=task.folder / f"{site}.log",
        environment={
            **_environment(task, task.folder / f"{site}-home"),
            **task.role(site),
        },
    )


def _is_healthy(task: Task, pki: PkiPaths) -> bool:
    context = create_default_context(cafile=str(pki.root_certificate))
    url = f"https://{LOOPBACK}:{task.server_port}/health"
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return response.status == 200
    except (URLError, TimeoutError, ConnectionError):
        return False
