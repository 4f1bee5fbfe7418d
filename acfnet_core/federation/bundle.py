"""Where the Flower bundle lies: one file that names the installed apps, and no code."""

from pathlib import Path

_PACKAGED = Path(__file__).parent / "flower_app"
_IN_THE_REPOSITORY = Path(__file__).parents[2] / "deploy" / "flower-app"


def bundle_folder() -> Path:
    """Return the bundle's folder: in an installed wheel, or in the repository.

    Raises:
        FileNotFoundError: The installation is not complete.
    """
    for folder in (_PACKAGED, _IN_THE_REPOSITORY):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(f"{_PACKAGED}: the Flower bundle is not installed")
