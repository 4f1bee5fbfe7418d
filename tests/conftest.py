"""What every test needs before it imports our programs."""

import warnings

with warnings.catch_warnings():
    # typer 0.20 takes names from click 8.5 that click 9 will move; flwr 1.41 forbids a
    # newer typer. The warning comes once, when typer is first imported: here.
    warnings.filterwarnings("ignore", "'click", DeprecationWarning)
    import typer  # noqa: F401
