"""NVIDIA FLARE's rounds: POC mode with its mutual TLS, its NumPy FedAvg recipe.

`flare` waits as FLARE does unless told otherwise; `flare-fast` has every wait that its
settings know of lowered to `FAST_S`: the server's answer to when a site should ask
again, the site's own, and the controller's look at its tasks.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from round_peers.measurement import Play, Task
from round_peers.process_watch import SERVER

from acfnet_core.processes import Child, check_alive, start_child, stop_children

FAST_S = 0.1
TIMES_FILE = "round-ends.txt"
ADMIN = "admin@nvidia.com"
PERSISTOR = "sixty_persistor.SixtyTensorsPersistor"
_RUN_TIMEOUT_S = 3600.0
_HERE = Path(__file__).parent
_PARTS = _HERE / "flare_parts"


def play(task: Task, *, is_fast: bool) -> list[float]:
    """Play a federation; return when each of its rounds ended."""
    kits = _provision(task)
    job = _write_job(task, is_fast=is_fast)
    with _running(task, kits):
        submit = [str(_PARTS / "submit.py"), ADMIN, str(kits / ADMIN), str(job)]
        _python(task, *submit, str(task.num_sites))
    return [float(line) for line in (task.folder / TIMES_FILE).read_text().split()]


PLAYS: dict[str, Play] = {
    "flare": partial(play, is_fast=False),
    "flare-fast": partial(play, is_fast=True),
}


def _environment(task: Task) -> dict[str, str]:
    programs = str(task.environment / "bin")
    return {
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        # FLARE keeps settings of its own in the home folder.
        "HOME": str(task.folder),
        "NVFLARE_POC_WORKSPACE": str(task.folder / "poc"),
    }


def _provision(task: Task) -> Path:
    """Have FLARE write its startup kits; let the sites connect to the relay.

    Returns:
        The folder that has one kit a participant.
    """
    project = task.folder / "project.yml"
    project.write_text(_project(task))
    program = [task.program("nvflare"), "poc", "prepare", "-i", str(project)]
    _run(task, program, "prepare.log")
    (kits,) = (task.folder / "poc" / "rounds").glob("prod_*")
    for site in task.sites:
        _change(
            kits / site / "startup" / "fed_client.json",
            lambda found: found["servers"][0]["service"].update(
                target=f"localhost:{task.relay_port}"
            ),
        )
    # The recipe's persistor knows one array; FLARE runs no other class unless told to.
    _change(
        kits / SERVER / "local" / "resources.json",
        lambda found: found["class_allow_list"].append(PERSISTOR),
    )
    return kits


def _project(task: Task) -> str:
    """Return FLARE's own project of the POC mode, on another port."""
    participants = [
        {
            "name": SERVER,
            "org": "nvidia",
            "type": "server",
            "default_host": "localhost",
            "fed_learn_port": task.server_port,
        },
        {"name": ADMIN, "org": "nvidia", "type": "admin", "role": "project_admin"},
        *({"name": site, "org": "nvidia", "type": "client"} for site in task.sites),
    ]
    built = "nvflare.lighter.impl"
    builders = [
        {
            "path": f"{built}.workspace.WorkspaceBuilder",
            "args": {"template_file": ["master_template.yml"]},
        },
        {
            "path": f"{built}.static_file.StaticFileBuilder",
            "args": {"config_folder": "config"},
        },
        {"path": f"{built}.cert.CertBuilder"},
        {"path": f"{built}.signature.SignatureBuilder"},
    ]
    # What is JSON is YAML.
    return json.dumps(
        {
            "api_version": 3,
            "name": "rounds",
            "description": "rounds",
            "participants": participants,
            "builders": builders,
        }
    )


def _write_job(task: Task, *, is_fast: bool) -> Path:
    """Have FLARE's recipe write the job; give it our model and, if asked, our waits."""
    folder = task.folder / "jobs"
    _python(
        task,
        str(_PARTS / "write_job.py"),
        *(str(folder), str(_PARTS / "site.py")),
        *(str(task.num_sites), str(task.num_rounds)),
    )
    app = folder / "rounds" / "app"
    for name in ("flare_parts/sixty_persistor.py", "sixty_tensors.py"):
        shutil.copy(_HERE / name, app / "custom")
    persistor = {
        "id": "persistor",
        "path": PERSISTOR,
        "args": {"mb": task.mb, "times_file": str(task.folder / TIMES_FILE)},
    }

    def change_server(found: dict[str, Any]) -> None:
        others = [part for part in found["components"] if part["id"] != "persistor"]
        found["components"] = [*others, persistor]
        if is_fast:
            found["server"] = {"task_request_interval": FAST_S}
            found["workflows"][0]["args"]["task_check_period"] = FAST_S

    def change_client(found: dict[str, Any]) -> None:
        if is_fast:
            found["default_task_fetch_interval"] = FAST_S

    _change(app / "config" / "config_fed_server.json", change_server)
    _change(app / "config" / "config_fed_client.json", change_client)
    return folder / "rounds"


@contextmanager
def _running(task: Task, kits: Path) -> Iterator[list[Child]]:
    """Run the server and the sites; who submits the job waits for them."""
    children: list[Child] = []
    try:
        for role in (SERVER, *task.sites):
            children.append(
                start_child(
                    role,
                    # What `nvflare poc start` does, less its loop that starts again.
                    ["bash", str(kits / role / "startup" / "sub_start.sh"), "--once"],
                    log_file=task.folder / f"{role}.log",
                    environment={**_environment(task), **task.role(role)},
                )
            )
        yield children
        check_alive(children)
    finally:
        stop_children(children)


def _python(task: Task, *arguments: str) -> None:
    _run(task, [task.program("python"), *arguments], f"{Path(arguments[0]).stem}.log")


def _run(task: Task, command: list[str], log: str) -> None:
    """Run a command of FLARE's environment to its end."""
    with (task.folder / log).open("wb") as file:
        subprocess.run(  # noqa: S603 - our own commands
            command,
            env={**os.environ, **_environment(task)},
            cwd=task.folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=_RUN_TIMEOUT_S,
            check=True,
        )


def _change(path: Path, change: Any) -> None:
    """Change a file of JSON in place."""
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
