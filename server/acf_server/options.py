"""What the coordinator's commands share: options, the console, the form of answers."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from acf_server.console import Console

console = Console()

Folder = Annotated[
    Path,
    typer.Option("--folder", help="The coordinator's folder.", show_default="here"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
HERE = Path()


def write_json(content: Any) -> None:
    """Write a command's answer for other programs."""
    typer.echo(json.dumps(content))


def next_step(command: str) -> None:
    """Say what to type next."""
    console.say(f"Next: {command}")
