"""Which round's state of a site counts: the last whose update was taken.

Some strategies have a site remember something from round to round. An answer may be
late, lost or refused after the site wrote down what follows from it; so the server says
in each request which of the site's answers it has taken last, and the site goes on from
there.
"""

from collections.abc import Sequence

import numpy as np

from acfnet_core.federation.admission import AdmittedUpdate
from acfnet_core.federation.parameters import FlatParameters, NamedArrays

_PREFIX = "last_round/"


def note_rounds(
    state: NamedArrays, updates: Sequence[AdmittedUpdate], round_number: int
) -> dict[str, FlatParameters]:
    """Return what is remembered of the sites, with those of this round brought up."""
    kept = {name: state[name] for name in state if name.startswith(_PREFIX)}
    # A float32 holds the number of every round that a run may have.
    this_round = np.array([round_number], dtype=np.float32)
    return kept | {f"{_PREFIX}{update.site}": this_round for update in updates}


def last_rounds(state: NamedArrays) -> dict[str, int]:
    """Return site -> the last round whose update was taken; others have none."""
    return {
        name.removeprefix(_PREFIX): int(state[name][0])
        for name in sorted(state)
        if name.startswith(_PREFIX)
    }
