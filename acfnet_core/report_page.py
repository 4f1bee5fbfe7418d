"""How our HTML pages are made: templates, escaping and the style that all share.

A page is one file that needs nothing else and no network. A side keeps its own
templates in a folder `templates`; with `{% include "page.css" %}` they take the look
from here.
"""

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_environment(package: str) -> Environment:
    """Return the templates of a package, then the shared ones.

    Every inserted text is escaped, and no name may be undefined.

    Args:
        package: The package whose folder `templates` comes first.

    Raises:
        ValueError: The package has no such folder.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("acfnet_core")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script_source(script: str) -> str:
    """Return what a page's content security policy must say to let one script run.

    >>> script_source("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
