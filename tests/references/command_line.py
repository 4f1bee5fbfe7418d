"""Our two programs, run in this process as an operator runs them."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import pytest
import typer

from acfnet_core.errors import CATALOGUE
from acfnet_core.flower_environment import SWITCHES


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The error that `--json` wrote."""
        return dict(json.loads(self.stdout.splitlines()[-1])["error"])


@dataclass(frozen=True)
class Program:
    """A program's `main`, with the terminal and the signals of the test."""

    name: str
    main: Callable[[], None]
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: object) -> Ended:
        """Run one command to its end."""
        self.monkeypatch.setattr(sys, "argv", [self.name, *map(str, arguments)])
        # These are the process's own: they are put back when the test ends.
        for name, value in SWITCHES.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        self.monkeypatch.setattr("signal.signal", lambda number, handler: None)
        self.capsys.readouterr()
        try:
            self.main()
        except SystemExit as ended:
            status = ended.code
        else:
            status = 0
        assert isinstance(status, int)
        said = self.capsys.readouterr()
        return Ended(status=status, stdout=said.out, stderr=said.err)


def all_commands(app: typer.Typer) -> list[tuple[str, ...]]:
    """Return the words of every command of a program."""
    return sorted(_walk(typer.main.get_command(app), ()))


def _walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield words
        return
    for name, child in command.commands.items():
        yield from _walk(child, (*words, name))


def refused(ended: Ended, code: str, *words: str) -> None:
    """Check that a command ended with a code, said why, where and what to do."""
    assert ended.status == CATALOGUE[code].exit_status
    assert f"error ({code})" in ended.stderr
    assert "what to do: " in ended.stderr
    assert [word for word in words if word not in ended.stderr] == []
