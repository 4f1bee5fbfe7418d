"""What the documentation says, run or compared with the code."""

import re
import runpy
from pathlib import Path

import click
import pytest
import typer

from acf_client.cli import app as client_app
from acf_server.cli import app as server_app
from acf_server.run_config import read_run_config, resolve_plan
from acfnet_core.cohort.contract import shipped_contract

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
PROGRAMS = {
    "acf-client": typer.main.get_command(client_app),
    "acf-server": typer.main.get_command(server_app),
}


def commands_in(page: Path) -> list[str]:
    """Return every command of ours that stands between back quotes or in a block."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:`|^|/)((?:acf-client|acf-server)(?: [^`\n]*)?)", text, re.M)
    return [command.strip() for command in found]


COMMANDS = sorted({(page.name, c) for page in PAGES for c in commands_in(page)})


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_documented_commands_and_options_exist(page: str, command: str) -> None:
    words = command.replace(",", "").split()
    found: click.Command = PROGRAMS[words.pop(0)]
    while words and isinstance(found, click.Group):
        name = words.pop(0)
        assert name in found.commands, f"{page}: {command}"
        found = found.commands[name]
    known = {option for p in found.params for option in p.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= known, f"{page}: {command}"


def test_documented_commands_are_found_at_all() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_example_run_toml_resolves() -> None:
    config = read_run_config(DOCS / "run.toml")
    keys = dict.fromkeys(config.run.sites, "-")
    plan = resolve_plan(config, shipped_contract("crlm"), keys)
    assert plan.rounds == config.run.rounds
    assert plan.model["size"] == "tiny"


def test_errors_page_is_that_of_the_catalogue() -> None:
    page = runpy.run_path(str(DOCS / "make_errors.py"))["errors_page"]()
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == page, "make errors"


def test_contract_page_names_files_that_exist() -> None:
    names = re.findall(r"`(\w+/[\w/]+\.py)`", (DOCS / "run-toml.md").read_text())
    assert names
    assert all((ROOT / name).exists() for name in names)
