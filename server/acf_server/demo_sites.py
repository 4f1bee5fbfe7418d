"""The hospitals of the demo: a step is the `acf-client` command that a site types."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acfnet_core.cohort.synthetic.site_settings import SETTINGS_NAME
from acfnet_core.errors import CATALOGUE, MachineError, restore_error
from acfnet_core.files import PRIVATE_MODE, write_atomically
from acfnet_core.processes import Child, start_child

NUM_PARALLEL = 2
DEVICE = "cpu"
NUM_THREADS = 1
"""Several sites share this machine, and the same seed is to give the same bits."""


@dataclass(frozen=True)
class DemoSite:
    """One hospital and its folder."""

    name: str
    folder: Path
    commands: list[subprocess.Popen[str]] = field(default_factory=list, compare=False)
    """Every command that was begun; those that still run are ended with the demo."""

    def initialise(
        self, clinical_table: Path, images: Path | None, settings: str | None
    ) -> None:
        """Set up the site's folder.

        Args:
            clinical_table: The hospital's table.
            images: Its folder of images, if it has one.
            settings: A site.toml, but for [compute], to put in the place of the one
                that is written first; None keeps that one.
        """
        options = ["--clinical", str(clinical_table)]
        if images is not None:
            options += ["--images", str(images)]
        options += ["--device", DEVICE, "--threads", str(NUM_THREADS)]
        self._command("init", str(self.folder), *options)
        if settings is not None:
            machine = f'[compute]\ndevice = "{DEVICE}"\nnum_threads = {NUM_THREADS}\n'
            write_atomically(
                self.folder / SETTINGS_NAME,
                f"{settings}\n{machine}".encode(),
                mode=PRIVATE_MODE,
            )

    def request_enrolment(self, line: str) -> tuple[Path, str]:
        """Answer the invitation; return the request file and the fingerprint."""
        answer = self._command("enroll", "-", *self._here(), typed=line)
        return Path(answer["request"]), str(answer["fingerprint"])

    def finish_enrolment(self, admission: Path) -> None:
        """Take the coordinator's admission."""
        self._command("enroll", "--admission", str(admission), *self._here())

    def check_and_prepare(self) -> str:
        """Check the data, prepare it, and return one line about it."""
        checked = self._command("data", "check", *self._here())
        made = self._command("data", "prepare", *self._here(), "--workers", "1")
        images = checked.get("images") or {"warnings": ()}
        doubts = dict.fromkeys(
            one["code"] for one in (*checked["warnings"], *images["warnings"])
        )
        return (
            f"{self.name}: {made['num_patients']} patients and {made['num_scans']} "
            f"scans prepared, {made['num_refused']} series refused"
            + (f"; warned of {', '.join(doubts)}" if doubts else "")
        )

    def start(self) -> Child:
        """Start the site; it runs until it is ended."""
        return start_child(
            f"acf-client start ({self.name})",
            [sys.executable, "-m", "acf_client", "start", *self._here()],
            log_file=self.folder / "logs" / "start.log",
        )

    def _here(self) -> tuple[str, str]:
        return ("--folder", str(self.folder))

    def _command(self, *arguments: str, typed: str | None = None) -> dict[str, Any]:
        """Run one `acf-client` command to its end and return its JSON.

        Raises:
            AcfnetError: The command failed: its own error, with its own exit status.
        """
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "acf_client", *arguments, "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.commands.append(process)
        stdout, stderr = process.communicate(typed)
        lines = stdout.strip().splitlines()
        answer = json.loads(lines[-1]) if lines else {}
        if process.returncode == 0:
            return dict(answer)
        error = answer.get("error", {})
        if error.get("code") in CATALOGUE:
            message = f"{self.name}: {error['message']}"
            raise restore_error(error["code"], message, remedy=error["remedy"])
        raise MachineError(
            "machine.process_died",
            f"{self.name}: `acf-client {arguments[0]}` ended with status "
            f"{process.returncode}. {stderr[-500:]}",
            remedy="Run the command by hand to see more.",
        )


def in_parallel(
    sites: Sequence[DemoSite], work: Callable[[DemoSite], str]
) -> Iterator[str]:
    """Do the same work for the sites, two at a time; yield their lines in order.

    At the first error, or Ctrl-C, nothing more is begun and what runs is ended.
    """
    pool = ThreadPoolExecutor(max_workers=NUM_PARALLEL)
    try:
        futures = [pool.submit(work, site) for site in sites]
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for site in sites:
            for process in site.commands:
                process.terminate()
        pool.shutdown()
