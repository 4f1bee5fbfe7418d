"""Write docs/errors.md from the catalogue of errors; `make errors` runs it."""

from pathlib import Path

from acfnet_core.errors import CATALOGUE, EXIT_INTERNAL, EXIT_INTERRUPTED

TARGET = Path(__file__).with_name("errors.md")
HEAD = f"""\
# Errors and exit statuses

Every error that an operator can meet has a code and an exit status of its own. The
message on the screen says more: where, what was found, what was expected, what to do.
Across the wire goes the code alone. With `--json` the last line on stdout is
`{{"error": {{"code", "message", "remedy"}}}}`.

Beside these: {EXIT_INTERNAL} is a fault of ours (please report the line), 2 a wrong
option, {EXIT_INTERRUPTED} Ctrl-C, 143 SIGTERM. This page is made by `make errors`.

| exit status | code | meaning |
|---|---|---|
"""


def errors_page() -> str:
    """Return the whole page."""
    entries = sorted(CATALOGUE.items(), key=lambda item: item[1].exit_status)
    rows = [f"| {e.exit_status} | `{code}` | {e.meaning} |" for code, e in entries]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(errors_page(), encoding="utf-8")
