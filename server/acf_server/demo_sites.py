"""The hospitals of the demo: a step is the `acf-client` command that a site types."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acfnet_core.errors import CATALOGUE, AcfnetError, MachineError
from acfnet_core.processes import Child, start_child

NUM_PARALLEL = 2


@dataclass(frozen=True)
class DemoSite:
    """One hospital and its folder."""

    name: str
    folder: Path

    def initialise(self, clinical_table: Path, images: Path | None) -> None:
        """Set up the site's folder."""
        options = ["--clinical", str(clinical_table)]
        if images is not None:
            options += ["--images", str(images)]
        # Several sites share this machine's cores.
        self._command("init", str(self.folder), *options, "--threads", "1")

    def request_enrolment(self, line: str) -> tuple[Path, str]:
        """Answer the invitation; return the request file and the fingerprint."""
        answer = self._command("enroll", "-", *self._here(), typed=line)
        return Path(answer["request"]), str(answer["fingerprint"])

    def finish_enrolment(self, admission: Path) -> None:
        """Take the coordinator's admission."""
        self._command("enroll", "--admission", str(admission), *self._here())

    def check_and_prepare(self) -> str:
        """Check the data, prepare it, and return one line about it."""
        self._command("data", "check", *self._here())
        made = self._command("data", "prepare", *self._here(), "--workers", "1")
        return (
            f"{self.name}: {made['num_patients']} patients and {made['num_scans']} "
            f"scans prepared, {made['num_refused']} series refused"
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
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "acf_client", *arguments, "--json"],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        answer = json.loads(lines[-1]) if lines else {}
        if done.returncode == 0:
            return dict(answer)
        error = answer.get("error", {})
        if error.get("code") in CATALOGUE:
            message = f"{self.name}: {error['message']}"
            raise AcfnetError(error["code"], message, remedy=error["remedy"])
        raise MachineError(
            "machine.process_died",
            f"{self.name}: `acf-client {arguments[0]}` ended with status "
            f"{done.returncode}. {done.stderr[-500:]}",
            remedy="Run the command by hand to see more.",
        )


def in_parallel(tasks: Sequence[Callable[[], str]]) -> Iterator[str]:
    """Run tasks two at a time; yield their lines in order, or raise the first error."""
    with ThreadPoolExecutor(max_workers=NUM_PARALLEL) as pool:
        futures = [pool.submit(task) for task in tasks]
        for future in futures:
            yield future.result()
