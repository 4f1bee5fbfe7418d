"""A thousand generated replies of each hostile kind: the model does not change.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python soak/hostile.py --write FILE.md

The site that sends them holds its own key, so what it changes is signed. The kinds are
those of tests/references/hostile_replies.py, which the tests take fewer of.
"""

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from consortium import describe_machine, parameters_after
from references.hostile_replies import BAD, KINDS, HostileSite

from acf_server.answers import RawAnswer
from acf_server.round_loop import RoundLoop
from acfnet_core.federation.messages import RoundRequest
from acfnet_core.federation.parameters import FlatParameters

ROUNDS = 2


def play_kind(folder: Path, kind: str | None, number: int) -> Counter[str]:
    """Play a run in whose last round one site sends one kind; count the refusals."""
    hostile = HostileSite(folder)
    hostile.run.plan = hostile.run.plan.model_copy(update={"rounds": ROUNDS})

    def exchange(request: RoundRequest, base: FlatParameters) -> Iterator[RawAnswer]:
        answers = hostile.honest(request, base)
        if request.round < ROUNDS:
            yield from answers
            return
        yield from (raw for raw in answers if raw.site != BAD)
        if kind is not None and request.round == ROUNDS:
            yield from hostile.cases(kind, number, seed=KINDS.index(kind))

    RoundLoop(hostile.run.plan, folder, exchange, hostile.run.events.append).run()
    return Counter(
        event.code
        for event in hostile.run.events
        if event.kind == "site_failed" and event.site == BAD
    )


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    play_kind(folder / "without", None, 0)
    model = parameters_after(folder / "without", ROUNDS)
    yield f"{options.number} replies of each kind ({describe_machine()}).\n"
    yield "| kind | refused | as | model |\n|---|---|---|---|"
    for kind in KINDS:
        target = folder / kind.replace(" ", "-")
        refused = play_kind(target, kind, options.number)
        is_same = parameters_after(target, ROUNDS) == model
        codes = ", ".join(f"{code} {count}" for code, count in sorted(refused.items()))
        state = "unchanged" if is_same else "CHANGED"
        yield f"| {kind} | {refused.total()} | {codes} | {state} |"


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--number", type=int, default=1000, help="of each kind")
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n".join(play(options, Path(temporary))) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
