"""Options that several commands of a site have."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Option("--folder", help="The site's folder.", show_default="here")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
HERE = Path()
