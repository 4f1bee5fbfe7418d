"""The edge of a program: where every error becomes a line and an exit status.

Both command lines end here, and nowhere else is an unforeseen error caught on the way.
"""

import json
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from acfnet_core.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, AcfnetError
from acfnet_core.files import describe_os_error

SHOWN_FRAMES = 6


@runtime_checkable
class Messages(Protocol):
    """Where a program speaks to people."""

    def say(self, text: str) -> None:
        """Say something."""

    def error(self, error: AcfnetError) -> None:
        """Say what is wrong and what to do."""


def run_program(command: Callable[[], object], messages: Messages) -> None:
    """Run a command line to its end.

    With `--json` among the arguments an error is also written to stdout, as
    `{"error": {"code", "message", "remedy"}}`.

    Raises:
        SystemExit: With the status of the error, if there was one.
    """
    end_on_signals()
    try:
        command()
    except AcfnetError as error:
        if "--json" in sys.argv:
            sys.stdout.write(json.dumps({"error": error.as_json()}) + "\n")
        messages.error(error)
        raise SystemExit(error.exit_status) from error
    except OSError as error:
        if error.filename is None:
            messages.say(f"internal error: {describe_place(error)}")
            raise SystemExit(EXIT_INTERNAL) from None
        known = describe_os_error(error, Path(error.filename))
        messages.error(known)
        raise SystemExit(known.exit_status) from error
    except SystemExit as ended:
        # Ctrl-C: typer has turned the KeyboardInterrupt into this.
        if ended.code == EXIT_INTERRUPTED:
            messages.say("Interrupted; everything that was started has been ended.")
        raise
    except Exception as error:
        messages.say(f"internal error: {describe_place(error)}")
        messages.say("what to do: report this line; nothing that was there is lost.")
        raise SystemExit(EXIT_INTERNAL) from None


def end_on_signals() -> None:
    """Let SIGTERM and a closed terminal unwind this process.

    It then first ends what it started.
    """

    def end(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def describe_place(error: Exception) -> str:
    """Return an error's type and where it arose; its text may quote a patient's value.

    >>> try:
    ...     int("Mrs Example, 61")
    ... except ValueError as error:
    ...     print(describe_place(error).split(":")[0])
    ValueError at <doctest acfnet_core.edge.describe_place[0]>
    """
    frames = traceback.extract_tb(error.__traceback__)[-SHOWN_FRAMES:]
    where = [f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames)]
    return f"{type(error).__name__} at {' < '.join(where)}"
